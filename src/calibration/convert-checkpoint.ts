import { mkdtemp, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Engine } from "../engine/engine.js";
import { InputError } from "../errors.js";
import { type ExportOptions, exportCheckpoint } from "../export/export.js";
import type { Comparison, Manifest } from "../model/manifest.js";
import { readManifest } from "../model/read-manifest.js";
import { calibrate } from "./calibrate.js";
import { compareModels } from "./compare.js";
import { sampleIds } from "./samples.js";

export interface ConvertOptions extends Omit<ExportOptions, "calibrate" | "verify" | "onProgress"> {
  /** Element type of the KV cache on the CPU. Default fp32. */
  kvCache?: "fp32" | "int8";
  /** Compare the verdicts with fp32's on sample conversations, and keep the outcome in guard.json. */
  verify?: boolean;
  onProgress?: (stage: ConvertStage, done: number, total: number) => void;
}

export type ConvertStage = "hash" | "write" | "calibrate" | "check" | "reference" | "verify";

/** Longest sample that calibration runs, in tokens. */
const SAMPLE_TOKENS = 512;

/**
 * Exports a checkpoint as `exportCheckpoint` does, with what needs the exported model to run: the int8 cache's
 * calibration, the self-test on the CPU, and the comparison with fp32 (which is exported beside for the time being).
 *
 * @throws {CheckpointError} see `exportCheckpoint`
 * @throws {ModelError} SELF_TEST_FAILED
 * @throws {InputError} KV_CACHE_UNKNOWN, VERIFY_NEEDS_CPU, and see `exportCheckpoint`
 */
export async function convertCheckpoint(
  checkpointDir: string,
  out: string,
  options: ConvertOptions = {},
): Promise<Manifest> {
  const { kvCache, verify, onProgress, ...exportOptions } = options;
  const telling = (stage: ConvertStage) => (done: number, total: number) => {
    options.signal?.throwIfAborted();
    onProgress?.(stage, done, total);
  };
  const device = options.device ?? "cpu";
  if (kvCache !== undefined && kvCache !== "fp32" && kvCache !== "int8") {
    throw new InputError("KV_CACHE_UNKNOWN", `Unknown cache type "${kvCache}". Choose fp32 or int8.`);
  }
  if (device !== "cpu" && (verify || kvCache !== undefined)) {
    throw new InputError(
      "VERIFY_NEEDS_CPU",
      `Calibration and verification run on the CPU: leave --verify and --kv-cache out with --device ${device}.`,
    );
  }
  return exportCheckpoint(checkpointDir, out, {
    ...exportOptions,
    onProgress,
    calibrate:
      kvCache === "int8"
        ? async (dir) => {
            const { maxPositions } = (await readManifest(dir)).config;
            const samples = await sampleIds(checkpointDir, Math.min(SAMPLE_TOKENS, maxPositions));
            return calibrate(dir, samples, telling("calibrate"));
          }
        : undefined,
    verify: async (dir) => {
      if (verify) return compareWithFp32(checkpointDir, dir, options.signal, telling);
      // A graph for a GPU is tested where it is first loaded.
      if (device === "cpu") await (await Engine.load(dir, { maxStreams: 1 })).close();
    },
  });
}

async function compareWithFp32(
  checkpointDir: string,
  modelDir: string,
  signal: AbortSignal | undefined,
  telling: (stage: ConvertStage) => (done: number, total: number) => void,
): Promise<Comparison> {
  const beside = await mkdtemp(join(dirname(resolve(modelDir)), ".reference-"));
  try {
    const reference = join(beside, "fp32");
    await exportCheckpoint(checkpointDir, reference, {
      dtype: "fp32",
      signal,
      onProgress: (stage, done, total) => stage === "write" && telling("reference")(done, total),
    });
    return await compareModels(reference, modelDir, telling("verify"));
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}
