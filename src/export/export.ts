import { existsSync } from "node:fs";
import { copyFile, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Checkpoint, TOKENIZER_FILES } from "../checkpoint/checkpoint.js";
import { InputError, StorageError } from "../errors.js";
import { BlockwiseWeights } from "./blockwise.js";
import type { CacheScales } from "./byte-attention.js";
import { DenseWeights } from "./dense.js";
import { Graph } from "./graph.js";
import { addHeads } from "./heads.js";
import {
  createManifest,
  type Device,
  DTYPES,
  type Dtype,
  type Manifest,
  MODEL_FILE,
  writeManifest,
} from "./manifest.js";
import { padHeads } from "./padded-heads.js";
import { addBackbone, type Target } from "./qwen3.js";
import { RowwiseWeights } from "./rowwise.js";
import type { WeightFormat, WeightSource } from "./weights.js";
import { rewriteGraph, writeFolder, writeModel } from "./writer.js";

export interface ExportOptions {
  /** Default: fp32 for the CPU, bf16 for CUDA. */
  dtype?: Dtype;
  /** Default: cpu. */
  device?: Device;
  /**
   * Makes the KV cache int8: gets the finished model with a float cache, and returns what a step of each channel
   * stands for, one entry a layer. See `calibrate` in conversion/.
   */
  calibrate?: (modelDir: string) => Promise<CacheScales[]>;
  /** SHA-256 of the checkpoint's files where it is known already: `Checkpoint.sha256`. */
  sources?: Record<string, string>;
  /** Called as bytes are hashed and written. */
  onProgress?: (stage: "hash" | "write", doneBytes: number, totalBytes: number) => void;
  signal?: AbortSignal;
}

/** A row that has nothing to do in a batch still writes one position past its length. */
const PADDING_POSITIONS = 1;

/**
 * Exports a checkpoint to a model directory: model.onnx, model.onnx.data, guard.json and the tokenizer's files.
 * Weights stream through, so memory stays bounded whatever the model's size. The directory appears only when it
 * is complete.
 *
 * @throws {CheckpointError} NON_FINITE_WEIGHT, and see `Checkpoint.open`
 * @throws {InputError} UNKNOWN_DTYPE, UNKNOWN_DEVICE, DTYPE_NEEDS_CUDA, DTYPE_NEEDS_CPU
 * @throws {StorageError} OUTPUT_EXISTS, OUTPUT_NOT_WRITABLE, DISK_FULL
 */
export async function exportCheckpoint(
  checkpointDir: string,
  out: string,
  options: ExportOptions = {},
): Promise<Manifest> {
  const device = options.device ?? "cpu";
  const dtype = options.dtype ?? (device === "cuda" ? "bf16" : "fp32");
  const target = chooseTarget(dtype, device);
  if (existsSync(out)) {
    throw new StorageError(
      "OUTPUT_EXISTS",
      `${resolve(out)} exists already. Remove it or choose another folder.`,
    );
  }
  const checkpoint = await Checkpoint.open(checkpointDir);
  try {
    const sources =
      options.sources ??
      (await checkpoint.sha256((done, total) => options.onProgress?.("hash", done, total)));
    const source = padHeads(checkpoint);
    const build = (cacheScales?: CacheScales[]) => {
      const graph = new Graph();
      const hidden = addBackbone(graph, source, {
        weights: createWeights(source, dtype, target),
        target,
        cacheScales,
        headSize: checkpoint.config.headDim,
        positions: checkpoint.config.maxPositions + PADDING_POSITIONS,
      });
      addHeads(graph, source, hidden, target.activation);
      return graph;
    };
    const producer = await packageInfo();
    let manifest: Manifest | undefined;
    await writeFolder(out, async (dir) => {
      const onWrite = (done: number, total: number) => options.onProgress?.("write", done, total);
      const { files, tensors } = await writeModel(dir, build(), producer, onWrite, options.signal);
      for (const file of TOKENIZER_FILES) {
        if (existsSync(join(checkpointDir, file))) await copyFile(join(checkpointDir, file), join(dir, file));
      }
      manifest = createManifest({
        exporter: `${producer.name} ${producer.version}`,
        dtype,
        kvCache: CACHE_TYPES[target.activation],
        device,
        config: checkpoint.config,
        cachedHeadSize: source.config.headDim,
        sources,
        files,
      });
      await writeManifest(dir, manifest);
      if (options.calibrate) {
        const graph = build(await options.calibrate(dir));
        options.signal?.throwIfAborted();
        files[MODEL_FILE] = await rewriteGraph(dir, graph, producer, tensors);
        manifest = { ...manifest, kvCache: "int8", files };
        await writeManifest(dir, manifest);
      }
    });
    return manifest as Manifest;
  } finally {
    await checkpoint.close();
  }
}

const CACHE_TYPES = { float32: "fp32", bfloat16: "bf16", float16: "fp16" } as const;

/** @throws {InputError} */
function chooseTarget(dtype: Dtype, device: Device): Target {
  if (!DTYPES.includes(dtype)) {
    throw new InputError("UNKNOWN_DTYPE", `Unknown dtype "${dtype}". Choose one of ${DTYPES.join(", ")}.`);
  }
  if (device !== "cpu" && device !== "cuda") {
    throw new InputError("UNKNOWN_DEVICE", `Unknown device "${device}". Choose cpu or cuda.`);
  }
  if (device === "cuda") {
    if (dtype === "fp32") {
      throw new InputError(
        "DTYPE_NEEDS_CPU",
        "CUDA's attention kernel takes 16-bit types alone: choose bf16, fp16, int8 or int4.",
      );
    }
    if (dtype === "w8a8") {
      throw new InputError(
        "DTYPE_NEEDS_CPU",
        "w8a8 is for the CPU's integer kernels: for CUDA choose bf16, fp16, int8 or int4.",
      );
    }
    return { activation: dtype === "fp16" ? "float16" : "bfloat16", fusedQkNorm: true };
  }
  if (dtype === "bf16" || dtype === "fp16") {
    throw new InputError(
      "DTYPE_NEEDS_CUDA",
      `The CPU's kernels do not take ${dtype}. Choose fp32, int8, w8a8 or int4, or export with --device cuda.`,
    );
  }
  return { activation: "float32", fusedQkNorm: false };
}

function createWeights(source: WeightSource, dtype: Dtype, target: Target): WeightFormat {
  switch (dtype) {
    case "int8":
      return new BlockwiseWeights(source, 8, target.activation);
    case "int4":
      return new BlockwiseWeights(source, 4, target.activation);
    case "w8a8":
      return new RowwiseWeights(source);
    default:
      return new DenseWeights(source, target.activation);
  }
}

/** Name and version of this package. */
export async function packageInfo(): Promise<{ name: string; version: string }> {
  return JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
}
