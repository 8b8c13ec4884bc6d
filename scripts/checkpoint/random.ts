import { existsSync } from "node:fs";
import { copyFile, mkdir, open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFloat16 } from "@petamoriken/float16";
import { BYTES_PER_VALUE, type SourceDtype } from "../../src/checkpoint/dtype.js";
import { expectedTensors } from "../../src/model/architecture.js";
import { isCausalLm, parseConfig } from "../../src/model/config.js";
import { labelsOf } from "../../src/tokenizer/chat-template/gen-form.js";
import { writeByteTokenizer } from "./byte-tokenizer.js";
import { type RawConfig, tiny } from "./presets.js";

export * from "./presets.js";

export interface RandomCheckpoint {
  /** Laid over the `tiny` preset. */
  config: Partial<RawConfig>;
  dtype: SourceDtype;
  /** Number of weight files, with an index if above 1. Default 1. */
  shards?: number;
  seed?: number;
  /**
   * Folder whose tokenizer files are copied along; null for none. Default: a tokenizer of single bytes; of a Gen guard,
   * whose instructions would fill its context with those, the embedded model's.
   */
  tokenizerDir?: string | null;
}

const BLOCK_VALUES = 1 << 20;

const EMBEDDED = fileURLToPath(new URL("../../models/default", import.meta.url));
/** Of the structure of Qwen3Guard-Gen's own, in other words. */
const GEN_TEMPLATE = fileURLToPath(new URL("gen-chat-template.jinja", import.meta.url));

/**
 * Writes a checkpoint folder with random weights. The same arguments give the same bytes on any platform: the
 * generator is integer arithmetic, the scaling IEEE multiplication and square root. Scales keep activations of order
 * 1 and spread the heads' logits (standard deviation about 1.5).
 */
export async function writeRandomCheckpoint(dir: string, options: RandomCheckpoint): Promise<void> {
  const { dtype, shards = 1, seed = 1 } = options;
  const whole = { ...tiny, ...options.config };
  const template = isCausalLm(whole) ? await readFile(GEN_TEMPLATE, "utf8") : null;
  const raw = template === null ? whole : withoutHeads(whole);
  const labels = template === null ? null : labelsOf({ template, toolTemplate: template, tokens: {} });
  const tensors = [...expectedTensors(parseConfig(raw, "config", labels))];
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, "config.json"), `${JSON.stringify(raw, null, 2)}\n`);

  const weightMap: Record<string, string> = {};
  const perShard = Math.ceil(tensors.length / shards);
  for (let shard = 0; shard < shards; shard++) {
    const number = (n: number) => String(n).padStart(5, "0");
    const file =
      shards === 1 ? "model.safetensors" : `model-${number(shard + 1)}-of-${number(shards)}.safetensors`;
    const part = tensors.slice(shard * perShard, (shard + 1) * perShard);
    for (const [name] of part) weightMap[name] = file;
    await writeSafetensors(
      join(dir, file),
      part,
      dtype,
      seed,
      template !== null && raw.tie_word_embeddings === true,
    );
  }
  if (shards > 1) {
    const total = tensors.reduce((sum, [, shape]) => sum + size(shape) * BYTES_PER_VALUE[dtype], 0);
    const index = { metadata: { total_size: total }, weight_map: weightMap };
    await writeFile(join(dir, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
  }
  if (template !== null) await writeFile(join(dir, "chat_template.jinja"), template);
  const tokenizerDir =
    options.tokenizerDir === undefined && template !== null ? EMBEDDED : options.tokenizerDir;
  if (tokenizerDir === undefined) return writeByteTokenizer(dir);
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    if (!tokenizerDir || existsSync(join(dir, name))) continue;
    const source = join(tokenizerDir, name);
    if (await stat(source).catch(() => null)) await copyFile(source, join(dir, name));
  }
}

/** What a causal LM's config.json does not have. */
function withoutHeads(raw: RawConfig): Partial<RawConfig> {
  const fields = Object.entries(raw).filter(
    ([name]) => !/^guard_inner_size$|^num_(query_|risk_|category)|_map$/.test(name),
  );
  return Object.fromEntries(fields);
}

function size(shape: number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

async function writeSafetensors(
  path: string,
  tensors: [string, number[]][],
  dtype: SourceDtype,
  seed: number,
  tied: boolean,
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const [name, shape] of tensors) {
    const begin = end;
    end += size(shape) * BYTES_PER_VALUE[dtype];
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  let json = JSON.stringify(header);
  json += " ".repeat((8 - (json.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));

  const file = await open(path, "w");
  try {
    await file.writeFile(Buffer.concat([length, Buffer.from(json)]));
    const values = new Float32Array(BLOCK_VALUES);
    const bytes = new Uint8Array(BLOCK_VALUES * BYTES_PER_VALUE[dtype]);
    for (const [name, shape] of tensors) {
      const { low, high } = range(name, shape, tied);
      const key = hashName(name, seed);
      for (let start = 0; start < size(shape); start += BLOCK_VALUES) {
        const block = values.subarray(0, Math.min(BLOCK_VALUES, size(shape) - start));
        fill(block, key, start, low, high);
        await file.writeFile(narrow(dtype, block, bytes));
      }
    }
  } finally {
    await file.close();
  }
}

/** Bounds of the uniform distribution a tensor is drawn from; ±√3·s has standard deviation s. */
function range(name: string, shape: number[], tied: boolean): { low: number; high: number } {
  if (shape.length === 1) return { low: 0.75, high: 1.25 };
  // As an LM head it spreads logits of its own, and the norms make up for its size elsewhere.
  if (name === "model.embed_tokens.weight" && !tied) return { low: -Math.sqrt(3), high: Math.sqrt(3) };
  const deviation = (/_head\.weight$|^lm_head|^model\.embed/.test(name) ? 1.5 : 1) / Math.sqrt(shape[1]);
  return { low: -Math.sqrt(3) * deviation, high: Math.sqrt(3) * deviation };
}

/** FNV-1a of the name, started at the seed: a tensor's values depend on neither order nor shard. */
function hashName(name: string, seed: number): number {
  let hash = 0x811c9dc5 ^ Math.imul(seed, 0x9e3779b1);
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash;
}

/**
 * Value `start + i` of the stream `key`: MurmurHash3's finalizer over a Weyl sequence. The key enters between the
 * rounds; added at the start it would only shift one and the same sequence.
 */
function fill(block: Float32Array, key: number, start: number, low: number, high: number): void {
  const scale = (high - low) / 2 ** 32;
  for (let i = 0; i < block.length; i++) {
    let hash = Math.imul(start + i, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) ^ key;
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    block[i] = low + ((hash ^ (hash >>> 16)) >>> 0) * scale;
  }
}

/** Rounds to the nearest, ties to even. */
function narrow(dtype: SourceDtype, values: Float32Array, bytes: Uint8Array): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (dtype === "BF16") {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, values.length);
    for (let i = 0; i < bits.length; i++) halves[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16;
  } else {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let i = 0; i < values.length; i++) setFloat16(view, 2 * i, values[i], true);
  }
  return bytes.subarray(0, values.length * 2);
}
