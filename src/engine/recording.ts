import { debuglog } from "node:util";
import { GuardError } from "../errors.js";
import type { ModelOutput } from "../model/outputs.js";
import type { Device } from "../runtime/devices/device.js";
import { deviceName } from "../runtime/devices/device-id.js";
import type { BatchRunner, Row } from "./batch.js";
import type { Logits } from "./logits.js";
import type { StepRange } from "./recorded-steps.js";

/** How steps are recorded on a device that can (CUDA graphs). */
export interface RecordingReport {
  /** The way in use; null where kernels are started one by one. */
  mode: string | null;
  /** Recorded steps. */
  steps: number;
  /** The ways that failed, and of what. */
  failed: { mode: string; problem: string }[];
  /** Largest distance between a logit of a recorded step and of the same one run kernel by kernel. */
  distance: number | null;
  /** Bytes free on the device before and after recording. */
  freeBytes: [before: number, after: number];
}

/** What is checked: a model, its rows in the cache, and the steps worth recording, larger ones first. */
export interface RecordingPlan {
  ranges: readonly StepRange[];
  slots: number;
  maxTokens: number;
  vocabSize: number;
  outputs: readonly ModelOutput[];
}

/** Tokens one by one, and a prompt on another row every so many of them: its kernels and the steps' share workspaces. */
const TOKENS = 40;
const PROMPT_TOKENS = 300;
const PROMPT_EVERY = 8;

/** Kernels may differ between the two where lengths are read on the host: logits of 16-bit types move by this much. */
const TOLERANCE = 0.02;

/** Of the memory that is kept for workspaces, recordings may take a quarter. */
const SHARE = 1 / 4;

const log = debuglog("qwen3guard");

/**
 * Records steps in the best way that says what steps run kernel by kernel say; in none, with a process warning, where all
 * ways fail. Before the first sequence.
 *
 * @throws {DeviceError} where steps do not run at all
 */
export async function recordSteps(
  runner: BatchRunner,
  device: Device,
  plan: RecordingPlan,
): Promise<RecordingReport> {
  const recorder = device.recorder!;
  const before = device.memory();
  const report: RecordingReport = {
    mode: null,
    steps: 0,
    failed: [],
    distance: null,
    freeBytes: [before.bytes, before.bytes],
  };
  const enough = () => before.bytes - device.memory().bytes > before.reserved * SHARE;
  // The first rows are given out first, so theirs come first; the largest range is one of them.
  const ranges = [...plan.ranges].sort((a, b) => Number(a.first > 0) - Number(b.first > 0));
  const expected = await decode(runner, plan, true);
  for (const mode of recorder.modes) {
    try {
      await runner.record(ranges, mode, enough);
      const distance = Math.max(
        largestDistance(await decode(runner, plan, false), expected),
        await rangesDistance(runner, plan),
      );
      // NaN is beyond any tolerance.
      if (!(distance <= TOLERANCE)) throw new GuardError("RECORDING_WRONG", wrongBy(distance));
      Object.assign(report, { mode: mode.name, steps: runner.recorded, distance });
      break;
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      report.failed.push({ mode: mode.name, problem: error.message });
      log("recording, %s: %s", mode.name, error.message);
      runner.forget();
      await recorder.recover();
    }
  }
  report.freeBytes[1] = device.memory().bytes;
  log("recording: %j", report);
  if (report.mode === null) warn(device, report);
  return report;
}

function warn(device: Device, { failed }: RecordingReport): void {
  const problems = failed.map(({ mode, problem }) => `${mode}: ${problem}`).join("; ");
  process.emitWarning(
    `Steps could not be recorded on ${deviceName(device.id)}, so tokens take longer. ${problems}`,
    { code: "QWEN3GUARD_NOT_RECORDED" },
  );
}

function wrongBy(distance: number): string {
  return `recorded steps say something else: a logit is off by ${distance.toPrecision(3)}, and ${TOLERANCE} is allowed`;
}

/** A row with made-up tokens. */
class ScriptedRow implements Row {
  length = 0;
  readonly #seed: number;
  readonly #vocabSize: number;

  constructor(seed: number, vocabSize: number) {
    this.#seed = seed;
    this.#vocabSize = vocabSize;
  }

  copyIds(count: number, target: BigInt64Array, offset: number): void {
    for (let i = 0; i < count; i++) {
      target[offset + i] = BigInt(((this.length + i) * 7919 + this.#seed * 104729 + 1) % this.#vocabSize);
    }
  }
}

/** The logits of single tokens on the first row; recorded ones with prompts in between on the second, if there is one. */
async function decode(runner: BatchRunner, plan: RecordingPlan, eager: boolean): Promise<Float32Array[]> {
  const { slots, maxTokens, vocabSize } = plan;
  const row = new ScriptedRow(0, vocabSize);
  const prompt = { firstRow: 1, rows: [new ScriptedRow(1, vocabSize)], active: [true] };
  const length = Math.min(PROMPT_TOKENS, runner.maxTokens, maxTokens);
  const found: Float32Array[] = [];
  for (; row.length < Math.min(TOKENS, maxTokens); row.length++) {
    if (!eager && slots > 1 && row.length % PROMPT_EVERY === 0)
      await runner.run({ ...prompt, length }, { eager: true });
    const logits = await runner.run({ firstRow: 0, rows: [row], active: [true], length: 1 }, { eager });
    found.push(taken(logits, plan.outputs, 1));
  }
  return found;
}

/** Each range once, recorded and not, with other tokens on each row. */
async function rangesDistance(
  runner: BatchRunner,
  { ranges, vocabSize, outputs }: RecordingPlan,
): Promise<number> {
  let distance = 0;
  for (const { first, count, length = 1 } of ranges) {
    const rows = Array.from({ length: count }, (_, i) => new ScriptedRow(first + i, vocabSize));
    // Behind the token that the row has from a shorter range.
    if (length > 1) for (const row of rows) row.length = 1;
    const batch = { firstRow: first, rows, active: rows.map(() => true), length };
    const recorded = taken(await runner.run(batch), outputs, count * length);
    const expected = taken(await runner.run(batch, { eager: true }), outputs, count * length);
    distance = Math.max(distance, largestDistance([recorded], [expected]));
  }
  return distance;
}

/** A copy of the logits of so many tokens; outputs of the last position alone have fewer, and are left as they were. */
function taken(logits: Logits, outputs: readonly ModelOutput[], tokens: number): Float32Array {
  return Float32Array.from(
    outputs.flatMap(({ name, width, position }) => [
      ...logits[name].subarray(0, (position === "each" ? tokens : 1) * width),
    ]),
  );
}

/** NaN where either holds one. */
function largestDistance(found: readonly Float32Array[], expected: readonly Float32Array[]): number {
  let largest = 0;
  found.forEach((values, i) => {
    values.forEach((value, j) => {
      largest = Math.max(largest, Math.abs(value - expected[i][j]));
    });
  });
  return largest;
}
