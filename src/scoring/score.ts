import type { Readable } from "node:stream";
import { ContextLengthError, InputError } from "../errors.js";
import type { Guard } from "../guard.js";
import { isBlank, type Line, readLines } from "./lines.js";
import { parseRow } from "./row.js";

export interface ScoreOptions {
  /** Field of a row that takes what was found. */
  field: string;
  /** Bytes of a line. A longer one is cut, and not judged. */
  maxLine: number;
  /** Reads once what lines begin with alike. Default false: then a verdict depends on its own line alone. */
  reuse?: boolean;
  signal?: AbortSignal;
}

export interface Totals {
  /** All lines, blank ones too. */
  lines: number;
  /** How many were found to be what, by the checkpoint's label. */
  risks: Map<string, number>;
  /** Lines that went on with an error. */
  errors: number;
  /** The first of them, from 1. */
  firstError: number | null;
}

/**
 * Judges JSON lines: for each line one line, in the same order, as soon as it is there. Lines that cannot be judged go on
 * with their error; blank lines go on as they are. Memory does not grow with the number of lines.
 *
 * @param source is destroyed where something fails: then nobody waits for its next line
 * @param write takes a line with its end; resolves when there is room for another
 * @throws what is no line's own fault: the guard failing, its closing, and what `write` and the source throw
 */
export async function scoreLines(
  guard: Guard,
  source: Readable,
  write: (line: string) => Promise<void>,
  options: ScoreOptions,
): Promise<Totals> {
  const totals: Totals = { lines: 0, risks: new Map(), errors: 0, firstError: null };
  const underWay: Promise<void>[] = [];
  let last = Promise.resolve();
  try {
    for await (const line of readLines(source, options.maxLine)) {
      const judged = judge(guard, line, totals, options);
      const before = last;
      // Written without waiting for further lines: whoever sends one may want its verdict first.
      last = judged.then((text) => before.then(() => write(`${text}\n`)));
      last.catch(() => source.destroy());
      underWay.push(last);
      // As many as the guard takes, and one that is read and encoded meanwhile.
      if (underWay.length > guard.maxStreams) await underWay.shift();
    }
  } catch (error) {
    // What failed before says more than that the source is gone.
    await last;
    throw error;
  }
  await last;
  return totals;
}

/** A line with its verdict, or with what is wrong with it. */
async function judge(
  guard: Guard,
  line: Line,
  totals: Totals,
  { field, reuse, signal }: ScoreOptions,
): Promise<string> {
  const number = ++totals.lines;
  if (isBlank(line.bytes) && line.bytes.length === line.length) return line.bytes.toString("latin1");
  const row = parseRow(line, field);
  try {
    if ("problem" in row) throw row.problem;
    const cacheKey = reuse ? "" : String(number);
    const asked = { ...row.conversation, closely: true, signal, cacheKey };
    // How much had been read before is the run's, not the row's: the same row has the same verdict, to the letter.
    const { reusedTokens: _, ...found } = await guard.classify(asked);
    totals.risks.set(found.risk, (totals.risks.get(found.risk) ?? 0) + 1);
    return row.with(found);
  } catch (error) {
    // Others, such as logits that are not finite, say something of the guard.
    if (!(error instanceof InputError || error instanceof ContextLengthError)) throw error;
    totals.errors++;
    totals.firstError = Math.min(totals.firstError ?? number, number);
    const { code, message } = error;
    return row.with({ error: { code, message } });
  }
}
