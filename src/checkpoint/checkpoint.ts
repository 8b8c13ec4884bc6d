import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.js";
import { fileProblem, openRegular, readText } from "../files/regular-file.js";
import { expectedTensors } from "../model/architecture.js";
import { type GuardConfig, isCausalLm, parseConfig } from "../model/config.js";
import { genLabels } from "../tokenizer/chat-template/gen-form.js";
import { TOKENIZER_FILES } from "../tokenizer/tokenizer-file.js";
import { isRecord, LARGEST_JSON, parseJson } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";
import { BYTES_PER_VALUE, widen } from "./dtype.js";
import { SafetensorsFile, shapeText, type TensorInfo, unreadable } from "./safetensors.js";

const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const VALUES_PER_BLOCK = 1 << 20;

/**
 * A guard's checkpoint folder in Hugging Face's layout, checked when it is opened: config.json, and every
 * tensor of the architecture present with the right shape in a readable type. Tensors beyond those are ignored.
 */
export class Checkpoint {
  private constructor(
    readonly dir: string,
    readonly config: GuardConfig,
    readonly tensors: Map<string, TensorInfo>,
    private readonly files: Map<string, SafetensorsFile>,
    private readonly hasIndex: boolean,
  ) {}

  /**
   * Throws CheckpointError: CHECKPOINT_MISSING, WEIGHTS_MISSING, INDEX_INVALID, SHARD_NAME, SHARD_MISSING,
   * TENSOR_MISSING, TENSOR_SHAPE, TENSOR_DTYPE, and the codes of parseConfig and SafetensorsFile.
   */
  static async open(dir: string): Promise<Checkpoint> {
    if (!(await stat(dir).catch(() => null))?.isDirectory()) {
      throw new CheckpointError(
        "CHECKPOINT_MISSING",
        `There is no checkpoint folder at ${dir}. Check the path, or fetch one with "qwen3guard pull".`,
      );
    }
    const configPath = join(dir, "config.json");
    const json = await readJson(configPath, "CONFIG_INVALID");
    const config = parseConfig(json, configPath, isCausalLm(json) ? await genLabels(dir) : null);

    const files = new Map<string, SafetensorsFile>();
    try {
      const index = existsSync(join(dir, WEIGHTS)) ? null : await readIndex(dir);
      for (const shard of new Set(index?.values() ?? [WEIGHTS])) {
        files.set(shard, await openShard(dir, shard, index !== null));
      }
      const tensors = index ? gatherIndexed(index, files, dir) : files.get(WEIGHTS)!.tensors;
      const others = new Map([...files.values()].flatMap((file) => [...file.unreadable]));
      checkTensors(config, tensors, others, dir);
      return new Checkpoint(dir, config, tensors, files, index !== null);
    } catch (error) {
      await Promise.all([...files.values()].map((file) => file.close()));
      throw error;
    }
  }

  shape(name: string): number[] {
    return this.info(name).shape;
  }

  /**
   * One tensor as float32, `rowsPerBlock` rows (of the first dimension) at a time, default about 4 MB. `data` holds
   * whole rows and is overwritten by the next block. Memory stays at one block, whatever the tensor's size.
   * Throws CheckpointError NON_FINITE_WEIGHT at the first NaN or infinity.
   */
  async *rows(name: string, rowsPerBlock?: number): AsyncGenerator<{ row: number; data: Float32Array }> {
    const { dtype, shape, file, begin, end } = this.info(name);
    const rows = shape[0] ?? 1;
    const width = rows === 0 ? 0 : (end - begin) / BYTES_PER_VALUE[dtype] / rows;
    const perBlock = Math.floor(rowsPerBlock ?? VALUES_PER_BLOCK / Math.max(1, width));
    const step = Math.max(1, Math.min(rows, perBlock));
    const rowBytes = width * BYTES_PER_VALUE[dtype];
    const source = this.open(file);
    const raw = new Uint8Array(step * rowBytes);
    const values = new Float32Array(step * width);

    const load = (row: number) => {
      const bytes = raw.subarray(0, (Math.min(row + step, rows) - row) * rowBytes);
      const loading = source.read(bytes, begin + row * rowBytes).then(() => bytes);
      loading.catch(() => {}); // reported where it is awaited, which may be after the caller's work on a block
      return loading;
    };
    let loading = load(0);
    try {
      for (let row = 0; row < rows; row += step) {
        const bytes = await loading;
        const data = values.subarray(0, bytes.length / BYTES_PER_VALUE[dtype]);
        const bad = widen(dtype, bytes, data);
        if (bad >= 0) throw nonFinite(name, row * width + bad, shape, data[bad], file);
        if (row + step < rows) loading = load(row + step); // while the caller works on this block
        yield { row, data };
      }
    } finally {
      await loading.catch(() => {});
    }
  }

  /** One whole tensor as float32, row-major. Throws as `rows` does. */
  async read(name: string): Promise<Float32Array> {
    const { shape } = this.info(name);
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    let filled = 0;
    for await (const { data } of this.rows(name)) {
      values.set(data, filled);
      filled += data.length;
    }
    return values;
  }

  /**
   * SHA-256 (hex) by file name of everything that makes the model what it is: config.json, index, weights and those
   * tokenizer files that exist. `onProgress` gets the bytes read so far and in all.
   */
  async sha256(
    onProgress?: (done: number, total: number) => void,
    signal?: AbortSignal,
  ): Promise<Record<string, string>> {
    const names = ["config.json", ...(this.hasIndex ? [INDEX] : []), ...this.files.keys()];
    for (const name of TOKENIZER_FILES) if (existsSync(join(this.dir, name))) names.push(name);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(this.dir, name))).size));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const sums: Record<string, string> = {};
    let done = 0;
    for (const name of names) {
      const hash = createHash("sha256");
      const path = join(this.dir, name);
      try {
        const file = await openRegular(path);
        for await (const chunk of file.createReadStream({ highWaterMark: 1 << 20 })) {
          signal?.throwIfAborted();
          hash.update(chunk);
          done += chunk.length;
          onProgress?.(done, total);
        }
      } catch (cause) {
        signal?.throwIfAborted();
        throw unreadable(path, cause);
      }
      sums[name] = hash.digest("hex");
    }
    return sums;
  }

  async close(): Promise<void> {
    await Promise.all([...this.files.values()].map((file) => file.close()));
  }

  private info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (!info) throw missing(name, this.dir);
    return info;
  }

  private open(path: string): SafetensorsFile {
    return [...this.files.values()].find((file) => file.path === path)!;
  }
}

async function readJson(path: string, code: string): Promise<unknown> {
  let text: string;
  try {
    text = await readText(path, LARGEST_JSON);
  } catch (cause) {
    const problem = (cause as NodeJS.ErrnoException).code;
    throw new CheckpointError(
      problem === "ENOENT" ? "FILE_MISSING" : "FILE_UNREADABLE",
      `${path} cannot be read (${fileProblem(cause)}). Name a checkpoint folder with config.json, tokenizer and weights, ` +
        `or fetch one with "qwen3guard pull".`,
      { cause },
    );
  }
  try {
    return parseJson(text);
  } catch (cause) {
    throw new CheckpointError(code, `${path} is not JSON (${(cause as Error).message}). Fetch it again.`, {
      cause,
    });
  }
}

/** Tensor name → shard file name, from the index. Names must be plain file names: a folder never reads outside itself. */
async function readIndex(dir: string): Promise<Map<string, string>> {
  const path = join(dir, INDEX);
  if (!existsSync(path)) {
    throw new CheckpointError(
      "WEIGHTS_MISSING",
      `${dir} has neither ${WEIGHTS} nor ${INDEX}. Only safetensors weights are read: fetch the checkpoint with ` +
        `"qwen3guard pull".`,
    );
  }
  const invalid = (code: string, complaint: string) =>
    new CheckpointError(code, `${path}: ${complaint}. Restore the index that came with the checkpoint.`);
  const map = ((await readJson(path, "INDEX_INVALID")) as { weight_map?: unknown } | null)?.weight_map;
  if (!isRecord(map)) throw invalid("INDEX_INVALID", "weight_map must map tensor names to file names");
  const index = new Map<string, string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !/^[^/\\:\0]+\.safetensors$/.test(shard) || shard.startsWith("..")) {
      throw invalid("SHARD_NAME", `${quoted(shard)} is no plain name of a .safetensors file`);
    }
    index.set(name, shard);
  }
  if (index.size === 0) throw invalid("INDEX_INVALID", "weight_map is empty");
  return index;
}

async function openShard(dir: string, shard: string, indexed: boolean): Promise<SafetensorsFile> {
  const path = join(dir, shard);
  if (indexed && !existsSync(path)) {
    throw new CheckpointError(
      "SHARD_MISSING",
      `${path} is named in ${INDEX} but missing. Fetch the checkpoint again; a finished download has every shard.`,
    );
  }
  return SafetensorsFile.open(path);
}

function gatherIndexed(
  index: Map<string, string>,
  files: Map<string, SafetensorsFile>,
  dir: string,
): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  for (const [name, shard] of index) {
    const file = files.get(shard)!;
    const info = file.tensors.get(name);
    if (info) tensors.set(name, info);
    else if (!file.unreadable.has(name)) {
      throw new CheckpointError(
        "TENSOR_MISSING",
        `${join(dir, INDEX)} says tensor ${name} is in ${shard}, but it is not. Index and shards are of different ` +
          `versions: fetch the checkpoint again.`,
      );
    }
  }
  return tensors;
}

function checkTensors(
  config: GuardConfig,
  tensors: Map<string, TensorInfo>,
  others: Map<string, string>,
  dir: string,
): void {
  for (const [name, shape] of expectedTensors(config)) {
    const info = tensors.get(name);
    if (!info && others.has(name)) {
      throw new CheckpointError(
        "TENSOR_DTYPE",
        `Tensor ${name} in ${dir} is of type ${others.get(name)}; only BF16, F16 and F32 can be read. Use the ` +
          `unquantized checkpoint.`,
      );
    }
    if (!info) throw missing(name, dir);
    if (info.shape.length !== shape.length || info.shape.some((size, axis) => size !== shape[axis])) {
      throw new CheckpointError(
        "TENSOR_SHAPE",
        `Tensor ${name} in ${dir} has shape ${shapeText(info.shape)}, but config.json asks for ` +
          `${shapeText(shape)}. Use the config.json and the weights of one and the same checkpoint.`,
      );
    }
  }
}

function missing(name: string, dir: string): CheckpointError {
  const hint = /^(query_)?(risk_level|category)/.test(name)
    ? "The moderation heads are not in it: use a Qwen3Guard-Stream checkpoint, or a Qwen3Guard-Gen."
    : "Use a complete checkpoint whose config.json matches its weights.";
  return new CheckpointError("TENSOR_MISSING", `Tensor ${name} is missing in ${dir}. ${hint}`);
}

function nonFinite(
  name: string,
  flat: number,
  shape: number[],
  value: number,
  file: string,
): CheckpointError {
  const position: number[] = [];
  for (let axis = shape.length - 1, rest = flat; axis >= 0; axis--) {
    position.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return new CheckpointError(
    "NON_FINITE_WEIGHT",
    `Weight ${name}[${position.join(", ")}] in ${file} is ${value}. Verdicts of such a model mean nothing: ` +
      `fetch the checkpoint again, or train it again if it is your own.`,
  );
}
