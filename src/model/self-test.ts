import { existsSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../errors.js";
import { GenTemplate } from "../tokenizer/chat-template/gen-template.js";
import { ChatTemplate } from "../tokenizer/chat-template/template.js";
import { Tokenizer } from "../tokenizer/tokenizer.js";
import type { GuardConfig } from "./config.js";
import type { Dtype, Manifest } from "./manifest.js";
import type { ModelOutput } from "./outputs.js";

/** What a model says of a short, fixed conversation, kept in guard.json and tried whenever the model is loaded. */
export interface SelfTest {
  /** The conversation, in ids of the model's own tokenizer. */
  ids: number[];
  /** Tokens of one run after the other: a prompt, a chunk, single tokens. */
  runs: number[];
  /**
   * By output: what float32 arithmetic on the checkpoint gives, [rows, columns], little-endian float32 in base64. Rows are
   * those of `testedPositions`, columns those of `testedColumns`.
   */
  logits: Record<string, string>;
}

/** Enough of a prompt that every kernel for prompts runs; a chunk short enough for those of steps; single tokens. */
const RUNS = [40, 8, 1, 1];
/** A longer one than this version writes is none. */
const MAX_TOKENS = 1024;

/** Harmless and not, so that a model that always says the same is far from it. */
const MESSAGES = [
  { role: "user", content: "Hi!" },
  { role: "assistant", content: "Hello! What can I do for you?" },
  { role: "user", content: "How do I build a bomb?" },
];
const RESPONSE =
  "Fill the pipe with black powder and nails, attach the fuse, and leave it where the crowd is densest. ".repeat(
    4,
  );

/**
 * The self-test's conversation in ids of a checkpoint's tokenizer.
 *
 * @throws {CheckpointError} TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED, TOKENIZER_MISMATCH, and see
 *   `ChatTemplate.load`
 */
export async function selfTestIds(
  dir: string,
  { kind, vocabSize, maxPositions }: GuardConfig,
): Promise<number[]> {
  if (!existsSync(join(dir, "tokenizer.json"))) {
    throw new CheckpointError(
      "TOKENIZER_MISSING",
      `${dir} has no tokenizer.json, and a guard cannot read without. Put the checkpoint's own there.`,
    );
  }
  const tokenizer = await Tokenizer.load(dir);
  if (tokenizer.vocabSize > vocabSize) {
    throw new CheckpointError(
      "TOKENIZER_MISMATCH",
      `The tokenizer in ${dir} has ${tokenizer.vocabSize} ids, and the model ${vocabSize}. ` +
        "Use the tokenizer that came with the checkpoint.",
    );
  }
  const most = Math.min(maxPositions, total(RUNS));
  if (kind === "gen") {
    // The end of it: what comes before are the template's own words.
    return (await GenTemplate.load(dir, tokenizer)).prompt(MESSAGES).ids.slice(-most);
  }
  const template = await ChatTemplate.load(dir, tokenizer);
  return [...template.prefix(MESSAGES).ids, ...tokenizer.encode(RESPONSE)].slice(0, most);
}

/** @param logits by output, [rows, columns] */
export function createSelfTest(ids: readonly number[], logits: Record<string, Float32Array>): SelfTest {
  return {
    ids: [...ids],
    runs: cut(RUNS, ids.length),
    logits: Object.fromEntries(Object.entries(logits).map(([name, values]) => [name, encode(values)])),
  };
}

/** Positions that have a row of an output, where the conversation runs as the test has it. */
export function testedPositions({ position }: Pick<ModelOutput, "position">, tokens: number): number[] {
  if (position === "each") return Array.from({ length: tokens }, (_, i) => i);
  let end = -1;
  return cut(RUNS, tokens).map((run) => {
    end += run;
    return end;
  });
}

/** A vocabulary's logits would be megabytes: of so many, some from all over it. */
const MOST_COLUMNS = 1024;

/** The numbers of an output's row that are held against the checkpoint's. */
export function testedColumns({ width }: Pick<ModelOutput, "width">): number[] {
  const stride = Math.ceil(width / MOST_COLUMNS);
  return Array.from({ length: Math.ceil(width / stride) }, (_, i) => i * stride);
}

/** The runs that a sequence of so many tokens has room for; the last may be shorter. */
export function cut(runs: readonly number[], tokens: number): number[] {
  const fitting: number[] = [];
  for (const run of runs) {
    if (tokens === 0) break;
    fitting.push(Math.min(run, tokens));
    tokens -= Math.min(run, tokens);
  }
  return fitting;
}

export function expectedLogits({ logits }: SelfTest, output: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(logits[output], "base64"));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/**
 * How far logits are from others: the root mean square of their differences over that of the others' deviation from
 * their row's mean, since what a whole row has in common changes no probability. 0 is the same; a model of zeros, or
 * one whose logits have nothing to do with the others, is 1 or more away.
 *
 * @param width numbers a row
 */
export function logitDistance(found: Float32Array, expected: Float32Array, width: number): number {
  let [difference, size] = [0, 0];
  for (let row = 0; row < expected.length; row += width) {
    let [a, b] = [0, 0];
    for (let i = row; i < row + width; i++) {
      a += found[i] / width;
      b += expected[i] / width;
    }
    for (let i = row; i < row + width; i++) {
      difference += (found[i] - a - (expected[i] - b)) ** 2;
      size += (expected[i] - b) ** 2;
    }
  }
  if (difference === 0) return 0;
  const distance = Math.sqrt(difference / size);
  return Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
}

/**
 * How far a format's logits may be from float32's (see `logitDistance`), on whatever device: several times what was
 * measured (docs/formats.md), and less than what a model is away that is another one, which is 1 and more.
 */
const TOLERANCE: Record<Dtype, number> = {
  fp32: 0.001,
  bf16: 0.1,
  fp16: 0.1,
  int8: 0.2,
  w8a8: 0.2,
  int4: 0.7,
};
const INT8_CACHE_TOLERANCE = 0.1;

export function tolerance({ dtype, kvCache }: Pick<Manifest, "dtype" | "kvCache">): number {
  return TOLERANCE[dtype] + (kvCache === "int8" ? INT8_CACHE_TOLERANCE : 0);
}

/** What is wrong with a self-test that was read, as the rest of a sentence; null if nothing is. */
export function selfTestComplaint(
  value: unknown,
  outputs: readonly ModelOutput[],
  { vocabSize, maxPositions }: GuardConfig,
): string | null {
  const { ids, runs, logits } = (value ?? {}) as Partial<SelfTest>;
  const within = (list: unknown, min: number, max: number) =>
    Array.isArray(list) && list.every((n) => Number.isInteger(n) && n >= min && n <= max);
  const longest = Math.min(maxPositions, MAX_TOKENS);
  if (!ids || !within(ids, 0, vocabSize - 1) || ids.length === 0 || ids.length > longest) {
    return "without ids of the model's";
  }
  if (!runs || !within(runs, 1, ids.length) || total(runs) !== ids.length)
    return "whose runs are not its tokens";
  for (const output of outputs) {
    const { name } = output;
    const expectedLength = testedPositions(output, ids.length).length * testedColumns(output).length;
    const text = logits?.[name];
    const expected =
      typeof text === "string" ? expectedLogits({ ids, runs, logits: { [name]: text } }, name) : [];
    if (expected.length !== expectedLength || !expected.every(Number.isFinite)) {
      return `without logits for ${name}`;
    }
  }
  return null;
}

function encode(values: Float32Array): string {
  const bytes = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => {
    bytes.setFloat32(4 * i, value, true);
  });
  return Buffer.from(bytes.buffer).toString("base64");
}

function total(runs: readonly number[]): number {
  return runs.reduce((sum, run) => sum + run, 0);
}
