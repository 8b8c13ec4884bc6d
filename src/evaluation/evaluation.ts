import { createHash } from "node:crypto";
import { InputError } from "../errors.js";
import { GenGuard } from "../gen-guard.js";
import type { Guard } from "../guard.js";
import type { Manifest } from "../model/manifest.js";
import type { Conversation } from "./conversation.js";
import { type Judging, judging } from "./judging.js";
import { Metrics, type Summary } from "./metrics.js";
import { type Outcome, outcomeOf } from "./outcome.js";
import { createPrediction, type Judgements, type Prediction, type Run } from "./prediction.js";
import { PredictionsFile } from "./predictions-file.js";
import { readRecords } from "./records.js";
import { type EvaluationType, parseRow, type Row } from "./row.js";

export interface EvaluationOptions {
  /** File in either layout: JSON lines or an array, gzipped or not. */
  dataset: string;
  type: EvaluationType;
  /** Responses are judged from their `<think>` on, not from the answer after it. */
  reasoning: boolean;
  /** Predictions are appended here, row by row; rows that are there already are not judged again. */
  out?: string;
  /** The first bad row is an error. */
  strict: boolean;
  signal?: AbortSignal;
  /** Rows done and rows in all, without those that were in `out` at the start. */
  onProgress?(done: number, total: number): void;
  /** Every row judged, those from `out` included, in no certain order. */
  onRow?(judged: JudgedRow): void;
}

export interface JudgedRow {
  row: Row;
  judgements: Judgements;
  outcome: Outcome;
}

export interface BadRow {
  /** Line of the file; in a JSON array, the element. Both from 1. */
  line: number;
  problem: string;
}

export interface Evaluation {
  run: Run;
  summary: Summary;
  /** Rows that `out` held at the start. */
  resumed: number;
  /** Rows that could not be judged, by line. */
  badRows: BadRow[];
  /** Well-formed rows left out because the plain layout's optional field is absent: rows by field. */
  missing: Record<string, number>;
  /** What makes figures doubtful. */
  warnings: string[];
  /** Time in the model and tokens judged in this run alone. */
  seconds: number;
  tokens: number;
}

/** Id of `<|im_end|>` in Qwen3's vocabulary, whose tokens the official test set's positions count. */
const QWEN_TURN_END = 151645;

/**
 * Judges a dataset by the official protocol and scores the verdicts.
 *
 * @throws {InputError} DATASET_UNREADABLE, DATASET_INVALID, DATASET_EMPTY, ROW_INVALID (strict), OUT_MISMATCH, OUT_DAMAGED
 * @throws {StorageError} OUT_UNWRITABLE
 * @throws {NumericError} LOGITS_NOT_FINITE
 * @throws the signal's reason
 */
export async function evaluate(guard: Guard | GenGuard, options: EvaluationOptions): Promise<Evaluation> {
  const { type, reasoning, out } = options;
  if (reasoning && guard instanceof GenGuard) throw reasoningRead();
  const run: Run = { type, reasoning, model: identify(guard.manifest), dtype: guard.manifest.dtype };
  const judge = judging(guard, { type, reasoning });
  const risks = type === "prompt" ? guard.labels.promptRisk : guard.labels.responseRisk;
  const metrics = new Metrics();
  const take = (row: Row, judgements: Judgements) => {
    const outcome = outcomeOf(row.annotation, judgements, risks, type);
    metrics.add(outcome);
    options.onRow?.({ row, judgements, outcome });
  };

  const file = out ? await PredictionsFile.open(out, run, (old) => take(rowOf(old, type), old)) : null;
  try {
    const resumed = file?.size ?? 0;
    const survey = await takeStock(options, file);
    const bad = survey.badRows;
    const started = performance.now();
    let tokens = 0;
    let done = 0;
    for await (const { row, result } of judgeAll(guard, judge, pendingRows(options, file), options)) {
      if ("problem" in result) {
        reject(options, bad, { line: row.line, problem: result.problem });
      } else {
        await file?.append(createPrediction(row, run, result));
        take(row, result);
        tokens += result.input_ids.length;
      }
      options.onProgress?.(++done, survey.rows - resumed);
    }
    const summary = metrics.summarize();
    if (summary.rows === 0) throw empty(options, survey);
    return {
      run,
      summary,
      resumed,
      badRows: bad.sort((a, b) => a.line - b.line),
      missing: survey.missing,
      warnings: summary.delay ? positionWarnings(guard) : [],
      seconds: (performance.now() - started) / 1000,
      tokens,
    };
  } finally {
    await file?.close();
  }
}

function reasoningRead(): InputError {
  return new InputError(
    "OPTION_INVALID",
    "A Gen guard reads answers as they stand, their reasoning included. Leave --reasoning out.",
  );
}

/** Where positions in a dataset count tokens that are not the guard's. */
function positionWarnings({ tokenizer }: Guard | GenGuard): string[] {
  if (tokenizer.tokenId("<|im_end|>") === QWEN_TURN_END) return [];
  return [
    "unsafe_start_index and unsafe_end_index count tokens. This model's tokenizer is not Qwen3's: unless the " +
      "positions were annotated with this very tokenizer, exact hit, first 128 and the delays mean nothing.",
  ];
}

interface Survey {
  /** Rows that can be judged, as far as their fields show. */
  rows: number;
  badRows: BadRow[];
  missing: Record<string, number>;
}

/** Reads the whole dataset once before any row is judged: what is wrong with it shows at once. */
async function takeStock(options: EvaluationOptions, file: PredictionsFile | null): Promise<Survey> {
  const survey: Survey = { rows: 0, badRows: [], missing: {} };
  let known = 0;
  for await (const parsed of readRows(options)) {
    options.signal?.throwIfAborted();
    if ("row" in parsed) {
      survey.rows++;
      if (file?.has(parsed.row)) known++;
    } else if ("missing" in parsed)
      survey.missing[parsed.missing] = (survey.missing[parsed.missing] ?? 0) + 1;
    else reject(options, survey.badRows, parsed);
  }
  file?.checkRows(known);
  return survey;
}

async function* readRows({ dataset, type }: EvaluationOptions) {
  for await (const record of readRecords(dataset)) {
    const { line } = record;
    yield "problem" in record ? record : { line, ...parseRow(record.value, line, type) };
  }
}

async function* pendingRows(options: EvaluationOptions, file: PredictionsFile | null): AsyncGenerator<Row> {
  for await (const parsed of readRows(options))
    if ("row" in parsed && !file?.has(parsed.row)) yield parsed.row;
}

interface Result {
  row: Row;
  result: Judgements | { problem: string };
}

/** Judges rows several at a time; they come out in order. */
async function* judgeAll(
  guard: Guard | GenGuard,
  judge: Judging,
  rows: AsyncIterable<Row>,
  { signal }: EvaluationOptions,
): AsyncGenerator<Result> {
  const queue: Promise<Result>[] = [];
  for await (const row of rows) {
    signal?.throwIfAborted();
    const conversation = prepare(judge, row, guard);
    const result = (async () => ({
      row,
      result:
        "problem" in conversation ? conversation : await judge.judge(conversation, row.messages, signal),
    }))();
    // Who comes later in the queue is not awaited when one before it fails.
    result.catch(() => {});
    queue.push(result);
    // One more than run at once, so that the next is ready when one ends.
    if (queue.length > guard.maxStreams) yield (await queue.shift()) as Result;
  }
  for (const result of queue) yield await result;
}

function prepare(judge: Judging, row: Row, guard: Guard | GenGuard): Conversation | { problem: string } {
  const { maxTokens } = guard;
  let conversation: ReturnType<Judging["encode"]>;
  try {
    conversation = judge.encode(row.messages);
  } catch (error) {
    if (error instanceof InputError) return { problem: error.message };
    throw error;
  }
  if ("problem" in conversation) return conversation;
  const { length } = conversation.ids;
  const answer = guard instanceof GenGuard ? guard.answerTokens : 0;
  if (length + answer > maxTokens) return { problem: `${length} tokens, and the model holds ${maxTokens}` };
  const end = row.annotation.span?.[1] ?? 0;
  if (end >= length && !(guard instanceof GenGuard)) {
    return {
      problem: `unsafe_end_index ${end} is past the ${length} tokens of the conversation: another tokenizer's?`,
    };
  }
  return conversation;
}

function rowOf(prediction: Prediction, type: EvaluationType): Row {
  const parsed = parseRow(prediction, prediction.qwen3guard.line, type);
  if ("row" in parsed) return parsed.row;
  throw new InputError(
    "OUT_DAMAGED",
    `Row ${prediction.qwen3guard.line} among the predictions is damaged. Delete its line and run again.`,
  );
}

function reject({ dataset, strict }: EvaluationOptions, badRows: BadRow[], { line, problem }: BadRow): void {
  if (strict) {
    throw new InputError(
      "ROW_INVALID",
      `Row ${line} of ${dataset}: ${problem}. Correct it, or leave --strict out to go on without it.`,
    );
  }
  badRows.push({ line, problem });
}

function empty({ dataset, type }: EvaluationOptions, { badRows, missing }: Survey): InputError {
  const absent = Object.entries(missing).map(([field, rows]) => `, ${rows} without ${field}`);
  const first = badRows[0] ? ` (row ${badRows[0].line}: ${badRows[0].problem})` : "";
  return new InputError(
    "DATASET_EMPTY",
    `${dataset} has no row to judge a ${type} by: ${badRows.length} bad rows${first}${absent.join("")}. ` +
      "Rows are {message, label}, or {prompt, response, prompt_label, response_label}.",
  );
}

/** A checkpoint by its content: the hash of its files' hashes. */
function identify({ sources }: Manifest): string {
  const sorted = Object.entries(sources).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(sorted)).digest("hex").slice(0, 16);
}
