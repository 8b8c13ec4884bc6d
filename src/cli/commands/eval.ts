import { resolve } from "node:path";
import { Command, Option } from "commander";
import { InputError } from "../../errors.js";
import type { EvaluationOptions, JudgedRow } from "../../evaluation/evaluation.js";
import type { Report } from "../../evaluation/report/report.js";
import type { EvaluationType } from "../../evaluation/row.js";
import { interruptSignal } from "../interrupt.js";
import { addModelOptions, loadAnyModel, type ModelOptions } from "../model-options.js";
import { createTerminal, type Progress, visibleLine } from "../terminal.js";

interface Options extends ModelOptions {
  type: EvaluationType;
  reasoning?: boolean;
  out?: string;
  report?: string;
  json?: boolean;
  strict?: boolean;
}

export function evalCommand(): Command {
  const command = new Command("eval")
    .summary("score a guard on a dataset by the official protocol")
    .description(
      "Judges every row of a dataset (JSON lines or a JSON array, gzipped or not) and prints how well unsafe ones were " +
        "found, and how soon.",
    )
    .argument(
      "<dataset>",
      "rows {message, label, unsafe_start_index?, unsafe_end_index?} or {prompt, response?, prompt_label?, response_label?}",
    )
    .addOption(
      new Option("--type <type>", "what is judged").choices(["prompt", "response"]).makeOptionMandatory(),
    )
    .option("--reasoning", "judge responses from their <think> on, not from the answer after it")
    .option("--out <file>", "append predictions here, row by row; run again to go on where it stopped")
    .option("--report <file>", "write an HTML page with every conversation as a heat map of its tokens")
    .option("--json", "one JSON object instead of text")
    .option("--strict", "stop at the first bad row instead of listing it")
    .addHelpText(
      "after",
      `
Examples:
  $ qwen3guard eval response_loc.jsonl --type response --model Qwen/Qwen3Guard-Stream-0.6B
  $ qwen3guard eval thinking_loc.jsonl --type response --reasoning --out predictions.jsonl
  $ qwen3guard eval prompts.jsonl.gz --type prompt --report report.html
  $ qwen3guard eval answers.json --type response --json | jq .strict.f1
  $ qwen3guard eval answers.jsonl --type response --model Qwen/Qwen3Guard-Gen-0.6B`,
    )
    .action(evalDataset);
  return addModelOptions(command);
}

async function evalDataset(dataset: string, options: Options): Promise<void> {
  checkPaths(dataset, options);
  const [{ evaluate }, { Report }, { evaluationJson, evaluationText }] = await Promise.all([
    import("../../evaluation/evaluation.js"),
    import("../../evaluation/report/report.js"),
    import("../evaluation-summary.js"),
  ]);
  const signal = interruptSignal();
  const terminal = createTerminal(process.stderr);
  // Whole conversations run fastest one after the other, in the longest steps there are.
  const guard = await loadAnyModel(options, { maxStreams: 1, signal });
  let report: Report | undefined;
  let progress: Progress | undefined;
  try {
    report = options.report ? await Report.create(options.report, options.type, guard) : undefined;
    const evaluation = await evaluate(guard, {
      dataset,
      type: options.type,
      reasoning: options.reasoning ?? false,
      out: options.out,
      strict: options.strict ?? false,
      signal,
      onRow: report && ((row: JudgedRow) => report?.add(row)),
      onProgress: (done, total) => {
        progress ??= terminal.progress("Judging", total, "rows");
        progress.update(done);
      },
    } satisfies EvaluationOptions);
    progress?.stop();
    const subject = {
      dataset,
      model: options.model ?? "the embedded guard",
      device: guard.manifest.device,
    };
    await report?.finish(subject, evaluation);
    const { colors } = createTerminal(process.stdout);
    const text = options.json
      ? evaluationJson(subject, evaluation)
      : evaluationText(subject, evaluation, colors);
    process.stdout.write(`${text}\n`);
  } catch (error) {
    progress?.stop();
    await report?.discard();
    if (signal.aborted && options.out)
      process.stderr.write(`Stopped. Run again to go on in ${visibleLine(options.out)}.\n`);
    throw error;
  } finally {
    await guard.close();
  }
}

/** The report replaces what is at its path. */
function checkPaths(dataset: string, { out, report }: Options): void {
  if (!report) return;
  const other = [dataset, out].find((path) => path && resolve(path) === resolve(report));
  if (other) {
    throw new InputError("REPORT_PATH_TAKEN", `--report would overwrite ${other}. Name another file.`);
  }
}
