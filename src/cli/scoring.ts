import type { Readable } from "node:stream";
import { ClosedError, InputError } from "../errors.js";
import { openInput } from "../files/input-stream.js";
import type { Guard } from "../guard.js";
import { scoreLines, type Totals } from "../scoring/score.js";
import type { ScoreOptions } from "./commands/score.js";
import { isFolder } from "./input.js";
import { interruptSignal } from "./interrupt.js";
import { loadModel } from "./model-options.js";
import { visibleLine } from "./terminal.js";

const FAILED = 1;

/** Judges JSON lines; what it comes to is in `process.exitCode`. @throws {InputError} ROWS_UNREADABLE */
export async function score(file: string | undefined, options: ScoreOptions): Promise<void> {
  // Until the last line is out: whoever stops reading before must not be told that this is all.
  process.exitCode = FAILED;
  const signal = interruptSignal();
  const name = file ?? "Standard input";
  const source = await open(file);
  let guard: Guard | undefined;
  try {
    signal.addEventListener("abort", () => source.destroy());
    signal.throwIfAborted();
    guard = await loadModel(options, { maxStreams: options.maxStreams, signal });
    const totals = await scoreLines(guard, source, print, { ...options, signal });
    if (totals.errors > options.allowErrors) report(totals);
    else process.exitCode = 0;
  } catch (error) {
    if (source.errored && error === source.errored) throw unreadable(name, source.errored);
    // Ctrl-C has its own exit code; there is nothing to explain.
    if (!(signal.aborted && (error instanceof ClosedError || source.destroyed))) throw error;
  } finally {
    source.destroy();
    await guard?.close();
  }
}

/** @throws {InputError} ROWS_UNREADABLE */
async function open(file: string | undefined): Promise<Readable> {
  try {
    if (file === undefined) {
      if (isFolder()) throw new Error("it is a folder");
      return process.stdin;
    }
    return await openInput(file);
  } catch (cause) {
    throw unreadable(file ?? "Standard input", cause as Error);
  }
}

function unreadable(name: string, cause: Error): InputError {
  return new InputError("ROWS_UNREADABLE", `${name} cannot be read: ${cause.message}.`, { cause });
}

function print(text: string): Promise<void> {
  if (process.stdout.write(text)) return Promise.resolve();
  return new Promise((resolve) => process.stdout.once("drain", resolve));
}

function report({ errors, lines, firstError }: Totals): void {
  const told = `${errors} of ${lines} lines have an error, the first in line ${firstError}.`;
  process.stderr.write(
    `${visibleLine(told)} They are there, without a verdict; --allow-errors accepts them.\n`,
  );
}
