import { once } from "node:events";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { Command, InvalidArgumentError, Option } from "commander";
import { ClosedError, InputError } from "../../errors.js";
import type { Totals } from "../../scoring/score.js";
import { interruptSignal } from "../interrupt.js";
import { addModelOptions, loadModel, type ModelOptions } from "../model-options.js";
import { whole } from "../numbers.js";
import { visibleLine } from "../terminal.js";

interface Options extends ModelOptions {
  field: string;
  allowErrors: number;
  maxLine: number;
  maxStreams: number;
  reuse?: boolean;
}

const FAILED = 1;

export function scoreCommand(): Command {
  const command = new Command("score")
    .summary("judge JSON lines, one verdict a line")
    .description(
      "A filter: JSON lines in, the same lines in the same order out, each with what the guard found of its conversation. " +
        "Memory stays the same however many there are. Lines that cannot be judged go on with their error.",
    )
    .argument(
      "[file]",
      "rows {messages, tools?} or {prompt}, and with either response? (default: standard input)",
    )
    .addOption(
      new Option("--field <name>", "the row's field for what was found")
        .default("qwen3guard")
        .argParser(fieldName),
    )
    .addOption(
      new Option(
        "--allow-errors <n>",
        'exit with 0 if no more lines than this had an error; "all": however many',
      )
        .default(0)
        .argParser((value) => (value === "all" ? Number.POSITIVE_INFINITY : whole(0, 2 ** 53 - 1)(value))),
    )
    .addOption(
      new Option("--max-line <bytes>", "a longer line is cut, and not judged")
        .default(16 << 20, "16 MiB")
        .argParser(whole(1, 2 ** 29)),
    )
    .addOption(new Option("--max-streams <n>", "lines judged at once").default(1).argParser(whole(1, 4096)))
    .option(
      "--reuse",
      "read once what lines begin with alike; a figure's last digits then depend on the lines before",
    )
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard score < rows.jsonl > judged.jsonl
  $ zcat rows.jsonl.gz | qwen3guard score --model Qwen/Qwen3Guard-Stream-0.6B --allow-errors all | gzip > judged.jsonl.gz
  $ qwen3guard score rows.jsonl | jq -c 'select(.qwen3guard.risk == "Unsafe")'

Lines:
  {"id":7,"prompt":"Hi"}     in
  {"id":7,"prompt":"Hi","qwen3guard":{"part":"prompt","risk","riskProbability","category",…}}    as classify --json
  {"id":8,"qwen3guard":{"error":{"code":"ROW_INVALID","message"}}}
  {"line":"no JSON","qwen3guard":{"error":{"code":"LINE_INVALID","message"}}}

Exit code: 0 if every line is there with a verdict, 1 if any has an error (see --allow-errors) or lines are missing.`,
    )
    .action(score);
  return addModelOptions(command);
}

function fieldName(value: string): string {
  // Those of a line that is no row.
  if (value === "line" || value === "bytes") throw new InvalidArgumentError("line and bytes are taken.");
  return value;
}

async function score(file: string | undefined, options: Options): Promise<void> {
  // Until the last line is out: whoever stops reading before must not be told that this is all.
  process.exitCode = FAILED;
  const { scoreLines } = await import("../../scoring/score.js");
  const signal = interruptSignal();
  const name = file ?? "Standard input";
  const source = await open(file);
  signal.addEventListener("abort", () => source.destroy());
  const guard = await loadModel(options, { maxStreams: options.maxStreams, signal });
  try {
    const totals = await scoreLines(guard, source, print, { ...options, signal });
    if (totals.errors > options.allowErrors) report(totals);
    else process.exitCode = 0;
  } catch (error) {
    if (source.errored && error === source.errored) throw unreadable(name, source.errored);
    // Ctrl-C has its own exit code; there is nothing to explain.
    if (!(signal.aborted && (error instanceof ClosedError || source.destroyed))) throw error;
  } finally {
    source.destroy();
    await guard.close();
  }
}

/** @throws {InputError} ROWS_UNREADABLE */
async function open(file: string | undefined): Promise<Readable> {
  try {
    if (file === undefined) {
      const { isFolder } = await import("../input.js");
      if (isFolder()) throw new Error("it is a folder");
      return process.stdin;
    }
    // A folder can be opened, and only then not be read.
    if ((await stat(file)).isDirectory()) throw new Error("it is a folder");
    const stream = createReadStream(file);
    await once(stream, "open");
    return stream;
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
