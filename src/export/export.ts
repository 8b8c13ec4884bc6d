import { existsSync } from "node:fs";
import { copyFile, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Checkpoint, TOKENIZER_FILES } from "../checkpoint/checkpoint.js";
import { namingAbort, StorageError } from "../errors.js";
import type { CacheScales } from "./byte-attention.js";
import { chooseTarget, createWeights, usualFormat } from "./formats.js";
import { Graph } from "./graph.js";
import { addHeads } from "./heads.js";
import {
  createManifest,
  type Device,
  type Dtype,
  type Manifest,
  MODEL_FILE,
  writeManifest,
} from "./manifest.js";
import type { AddOutputs, ModelOutput } from "./outputs.js";
import { padHeads } from "./padded-heads.js";
import { addBackbone } from "./qwen3.js";
import type { WeightSource } from "./weights.js";
import { rewriteGraph, writeFolder, writeModel } from "./writer.js";

export interface ExportOptions {
  /** Default: the device's usual one, fp32 for the CPU, bf16 for a GPU. */
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
 * @throws {ClosedError} ABORTED
 */
export async function exportCheckpoint(
  checkpointDir: string,
  out: string,
  options: ExportOptions = {},
): Promise<Manifest> {
  requireAbsent(out);
  chooseFormat(options);
  const checkpoint = await Checkpoint.open(checkpointDir);
  try {
    const sources =
      options.sources ??
      (await namingAbort(options.signal, `The export to ${out}`, () =>
        checkpoint.sha256((done, total) => options.onProgress?.("hash", done, total), options.signal),
      ));
    return await exportModel(
      { weights: checkpoint, addOutputs: addHeads, sources, dir: checkpointDir },
      out,
      options,
    );
  } finally {
    await checkpoint.close();
  }
}

/** A model to export: its weights, what it gives beside the cache, and where the files of its tokenizer lie. */
export interface ModelSource {
  weights: WeightSource;
  addOutputs: AddOutputs;
  sources: Record<string, string>;
  dir?: string;
}

/** Exports any model over Qwen3's backbone; otherwise as `exportCheckpoint`. */
export function exportModel(
  source: ModelSource,
  out: string,
  options: Omit<ExportOptions, "sources">,
): Promise<Manifest> {
  return namingAbort(options.signal, `The export to ${out}`, () => write(source, out, options));
}

async function write(
  { weights, addOutputs, sources, dir: texts }: ModelSource,
  out: string,
  options: Omit<ExportOptions, "sources">,
): Promise<Manifest> {
  requireAbsent(out);
  const { device, dtype, target } = chooseFormat(options);
  const source = padHeads(weights);
  const build = (cacheScales?: CacheScales[]): [Graph, ModelOutput[]] => {
    const graph = new Graph();
    const backbone = { weights: createWeights(source, dtype, target), target };
    const hidden = addBackbone(graph, source, {
      ...backbone,
      cacheScales,
      headSize: weights.config.headDim,
      positions: weights.config.maxPositions + PADDING_POSITIONS,
    });
    return [graph, addOutputs(graph, source, hidden, backbone)];
  };
  const producer = await packageInfo();
  let manifest: Manifest | undefined;
  await writeFolder(out, async (dir) => {
    const onWrite = (done: number, total: number) => options.onProgress?.("write", done, total);
    const [graph, outputs] = build();
    const { files, tensors } = await writeModel(dir, graph, producer, onWrite, options.signal);
    for (const file of TOKENIZER_FILES) {
      if (texts && existsSync(join(texts, file))) await copyFile(join(texts, file), join(dir, file));
    }
    manifest = createManifest({
      exporter: `${producer.name} ${producer.version}`,
      dtype,
      kvCache: CACHE_TYPES[target.activation],
      device,
      config: weights.config,
      cachedHeadSize: source.config.headDim,
      outputs,
      sources,
      files,
    });
    await writeManifest(dir, manifest);
    if (options.calibrate) {
      const [graph] = build(await options.calibrate(dir));
      options.signal?.throwIfAborted();
      files[MODEL_FILE] = await rewriteGraph(dir, graph, producer, tensors);
      manifest = { ...manifest, kvCache: "int8", files };
      await writeManifest(dir, manifest);
    }
  });
  return manifest as Manifest;
}

function requireAbsent(out: string): void {
  if (!existsSync(out)) return;
  throw new StorageError(
    "OUTPUT_EXISTS",
    `${resolve(out)} exists already. Remove it or choose another folder.`,
  );
}

/** @throws {InputError} UNKNOWN_DTYPE, UNKNOWN_DEVICE, DTYPE_NEEDS_CUDA, DTYPE_NEEDS_CPU */
function chooseFormat(options: ExportOptions) {
  const device = options.device ?? "cpu";
  const dtype = options.dtype ?? usualFormat(device);
  return { device, dtype, target: chooseTarget(dtype, device) };
}

const CACHE_TYPES = { float32: "fp32", bfloat16: "bf16", float16: "fp16" } as const;

/** Name and version of this package. */
export async function packageInfo(): Promise<{ name: string; version: string }> {
  return JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
}
