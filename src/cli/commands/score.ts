import { Command, InvalidArgumentError, Option } from "commander";
import { addModelOptions, type ModelOptions } from "../model-options.js";
import { whole } from "../numbers.js";

export interface ScoreOptions extends ModelOptions {
  field: string;
  allowErrors: number;
  maxLine: number;
  maxStreams: number;
  reuse?: boolean;
}

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
    .action(async (file: string | undefined, options: ScoreOptions) =>
      (await import("../scoring.js")).score(file, options),
    );
  return addModelOptions(command);
}

function fieldName(value: string): string {
  // Those of a line that is no row.
  if (value === "line" || value === "bytes") throw new InvalidArgumentError("line and bytes are taken.");
  return value;
}
