import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { GuardConfig } from "../../src/checkpoint/config.js";
import { BlockwiseWeights } from "../../src/export/blockwise.js";
import { DenseWeights } from "../../src/export/dense.js";
import { Graph } from "../../src/export/graph.js";
import type { Device, Dtype } from "../../src/export/manifest.js";
import { padHeads } from "../../src/export/padded-heads.js";
import { addBackbone, type Target } from "../../src/export/qwen3.js";
import { RowwiseWeights } from "../../src/export/rowwise.js";
import type { WeightFormat, WeightSource } from "../../src/export/weights.js";
import { writeFolder, writeModel } from "../../src/export/writer.js";
import { addGreedyHead } from "./greedy-head.js";

export const GENERATOR_FILE = "generator.json";

/** What was exported, beside the model. */
export interface GeneratorManifest {
  config: GuardConfig;
  dtype: Dtype;
  device: Device;
  cacheType: Target["activation"];
  cachedHeadSize: number;
}

/** Writes a causal LM: the backbone of the guard's own exporter under a greedy head. */
export async function exportGenerator(
  weights: WeightSource,
  out: string,
  { dtype, device }: { dtype: Dtype; device: Device },
): Promise<void> {
  const source = padHeads(weights);
  const target = targetOf(dtype, device);
  const format = formatOf(source, dtype, target);
  const graph = new Graph();
  const hidden = addBackbone(graph, source, {
    weights: format,
    target,
    headSize: weights.config.headDim,
    positions: weights.config.maxPositions,
  });
  addGreedyHead(graph, source, format, hidden);
  const manifest: GeneratorManifest = {
    config: weights.config,
    dtype,
    device,
    cacheType: target.activation,
    cachedHeadSize: source.config.headDim,
  };
  await writeFolder(out, async (dir) => {
    await writeModel(dir, graph, { name: "qwen3guard-stream bench", version: "" });
    await writeFile(join(dir, GENERATOR_FILE), JSON.stringify(manifest, null, 1));
  });
}

function targetOf(dtype: Dtype, device: Device): Target {
  const onlyHere = device === "cuda" ? ["bf16", "fp16", "int8", "int4"] : ["fp32", "int8", "w8a8", "int4"];
  if (!onlyHere.includes(dtype))
    throw new RangeError(`${dtype} is not for ${device}: ${onlyHere.join(", ")}.`);
  if (device === "cpu") return { activation: "float32", fusedQkNorm: false };
  return { activation: dtype === "fp16" ? "float16" : "bfloat16", fusedQkNorm: true };
}

function formatOf(source: WeightSource, dtype: Dtype, { activation }: Target): WeightFormat {
  if (dtype === "int8" || dtype === "int4")
    return new BlockwiseWeights(source, dtype === "int8" ? 8 : 4, activation);
  return dtype === "w8a8" ? new RowwiseWeights(source) : new DenseWeights(source, activation);
}
