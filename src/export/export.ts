import { existsSync } from "node:fs";
import { copyFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { Checkpoint } from "../checkpoint/checkpoint.js";
import { namingAbort, StorageError } from "../errors.js";
import { hashFiles } from "../model/file-hashes.js";
import { TAIL } from "../model/guard-outputs.js";
import {
  BRANCHES_FILE,
  type Comparison,
  type Device,
  type Dtype,
  KV_CACHES,
  type Manifest,
  MODEL_FILE,
  writeManifest,
} from "../model/manifest.js";
import type { ModelOutput } from "../model/outputs.js";
import { createSelfTest, type SelfTest, selfTestIds } from "../model/self-test.js";
import { Graph } from "../onnx/graph.js";
import { PACKAGE } from "../package/package.js";
import { TOKENIZER_FILES } from "../tokenizer/tokenizer-file.js";
import { BRANCHING } from "./branches.js";
import type { CacheScales } from "./byte-attention.js";
import { createWeights } from "./formats/formats.js";
import { addHeads } from "./heads.js";
import { addLmHead } from "./lm-head.js";
import type { AddOutputs } from "./outputs.js";
import { padHeads } from "./padded-heads.js";
import { addBackbone, type BackboneOptions } from "./qwen3.js";
import { referenceLogits } from "./reference.js";
import { chooseTarget, usualFormat } from "./target.js";
import type { WeightSource } from "./weights.js";
import { rewriteGraph, writeFolder, writeModel } from "./writer.js";

export interface ExportOptions {
  /** Default: the device's usual one, fp32 for the CPU, bf16 for a GPU. */
  dtype?: Dtype;
  /** Default: cpu. */
  device?: Device;
  /** Whether SiLU is computed in float32 where activations are of 16 bits. Default false. */
  floatSilu?: boolean;
  /** Whether attention gets q, k and v in one piece, where its kernel takes the norms too. Not measured. Default false. */
  packedQkv?: boolean;
  /**
   * Makes the KV cache int8: gets the finished model with a float cache, and returns what a step of each channel
   * stands for, one entry a layer. See `calibrate` in calibration/.
   */
  calibrate?: (modelDir: string) => Promise<CacheScales[]>;
  /**
   * Gets the finished model before it appears; what it throws leaves nothing behind. What it returns goes into guard.json.
   */
  verify?: (modelDir: string) => Promise<Comparison | undefined>;
  /** SHA-256 of the checkpoint's files where it is known already: `Checkpoint.sha256`. */
  sources?: Record<string, string>;
  /** Called as bytes are hashed and written, and as layers are computed for the self-test. */
  onProgress?: (stage: "hash" | "write" | "check", done: number, total: number) => void;
  signal?: AbortSignal;
}

/** A row that has nothing to do in a batch still writes one position past its length. */
const PADDING_POSITIONS = 1;

/** As `exportCheckpoint` of on-demand.ts. */
export async function exportCheckpoint(
  checkpointDir: string,
  out: string,
  options: ExportOptions = {},
): Promise<Manifest> {
  requireAbsent(out);
  chooseFormat(options);
  const checkpoint = await Checkpoint.open(checkpointDir);
  try {
    const ids = await selfTestIds(checkpointDir, checkpoint.config);
    const sources =
      options.sources ??
      (await namingAbort(options.signal, `The export to ${out}`, () =>
        checkpoint.sha256((done, total) => options.onProgress?.("hash", done, total), options.signal),
      ));
    const texts = TOKENIZER_FILES.map((file) => join(checkpointDir, file)).filter((file) => existsSync(file));
    const onLayer = (done: number, total: number) => {
      options.signal?.throwIfAborted();
      options.onProgress?.("check", done, total);
    };
    const selfTest = async () => createSelfTest(ids, await referenceLogits(checkpoint, ids, onLayer));
    const head =
      checkpoint.config.kind === "gen" ? { addOutputs: addLmHead, tail: TAIL } : { addOutputs: addHeads };
    return await exportModel({ weights: checkpoint, ...head, sources, texts, selfTest }, out, options);
  } finally {
    await checkpoint.close();
  }
}

/** A model to export. */
export interface ModelSource {
  weights: WeightSource;
  addOutputs: AddOutputs;
  /** Of how many of a run's last tokens it has outputs, if not of all. */
  tail?: number;
  sources: Record<string, string>;
  /** Files to take along. */
  texts?: string[];
  selfTest?: () => Promise<SelfTest>;
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
  { weights: checkpoint, addOutputs, tail, sources, texts = [], selfTest }: ModelSource,
  out: string,
  options: Omit<ExportOptions, "sources">,
): Promise<Manifest> {
  requireAbsent(out);
  const { device, dtype, target } = chooseFormat(options);
  const source = padHeads(checkpoint);
  const build = (varied: Pick<BackboneOptions, "cacheScales" | "branches"> = {}): [Graph, ModelOutput[]] => {
    const graph = new Graph();
    const weights = createWeights(source, dtype, target);
    const headWeights = dtype === "int4" ? createWeights(source, "int8", target) : weights;
    const backbone = { weights, headWeights, target };
    const hidden = addBackbone(graph, source, {
      ...backbone,
      ...varied,
      tail,
      headSize: checkpoint.config.headDim,
      positions: checkpoint.config.maxPositions + PADDING_POSITIONS,
    });
    return [graph, addOutputs(graph, source, hidden, backbone)];
  };
  let manifest: Manifest | undefined;
  await writeFolder(out, async (dir) => {
    const onWrite = (done: number, total: number) => options.onProgress?.("write", done, total);
    const [graph, outputs] = build();
    const { files, tensors } = await writeModel(dir, graph, PACKAGE, onWrite, options.signal);
    if (device === "cpu" && tail === undefined && !options.calibrate && BRANCHING.includes(dtype)) {
      const [branches] = build({ branches: true });
      files[BRANCHES_FILE] = await rewriteGraph(dir, branches, PACKAGE, tensors, BRANCHES_FILE);
    }
    for (const text of texts) {
      const file = basename(text);
      await copyFile(text, join(dir, file));
      files[file] = (await stat(join(dir, file))).size;
    }
    const content = {
      exporter: `${PACKAGE.name} ${PACKAGE.version}`,
      dtype,
      kvCache: KV_CACHES[target.activation] as Manifest["kvCache"],
      ...(dtype === "w8a8" && { sumsFit16Bits: true as const }),
      device,
      config: checkpoint.config,
      cachedHeadSize: source.config.headDim,
      outputs,
      sources,
      files,
      hashes: await hashFiles(dir, Object.keys(files)),
    };
    if (options.calibrate) {
      await writeManifest(dir, content);
      const [graph] = build({ cacheScales: await options.calibrate(dir) });
      options.signal?.throwIfAborted();
      files[MODEL_FILE] = await rewriteGraph(dir, graph, PACKAGE, tensors);
      content.kvCache = "int8";
      Object.assign(content.hashes, await hashFiles(dir, [MODEL_FILE]));
    }
    const tested = { ...content, selfTest: await selfTest?.() };
    manifest = await writeManifest(dir, tested);
    const comparison = await options.verify?.(dir);
    if (comparison) manifest = await writeManifest(dir, { ...tested, comparison });
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
  const { floatSilu, packedQkv } = options;
  return { device, dtype, target: { ...chooseTarget(dtype, device), floatSilu, packedQkv } };
}
