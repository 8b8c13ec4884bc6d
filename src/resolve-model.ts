import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { Checkpoint } from "./checkpoint/checkpoint.js";
import type { LoadProgress } from "./engine/engine.js";
import { CheckpointError, GuardError, InputError, ModelError, namingAbort, StorageError } from "./errors.js";
import { exportCheckpoint } from "./export/on-demand.js";
import { usualFormat } from "./export/target.js";
import { fileProblem, readText, writeWhole } from "./files/regular-file.js";
import { fileIdentity, verifyFiles } from "./model/file-hashes.js";
import { requireGuard } from "./model/guard-outputs.js";
import { type Device, type Dtype, FORMAT, GRAPH, MANIFEST_FILE, type Manifest } from "./model/manifest.js";
import { modelCache } from "./model/model-cache.js";
import { readManifest } from "./model/read-manifest.js";
import { PACKAGE, packageFile } from "./package/package.js";
import { type DeviceName, parseDevice } from "./runtime/devices/device-id.js";
import { ACCELERATORS, DEVICE_KINDS } from "./runtime/devices/kinds.js";
import { mustWidenBytes } from "./runtime/integer-kernels.js";

export interface ResolveOptions {
  /** Default auto: a GPU for models of some size where it works, else the CPU. "cuda:1" is the second GPU. */
  device?: DeviceName;
  /**
   * Format of the weights when a checkpoint is exported. Default on a GPU: bf16. On the CPU: fp32 for small models; above
   * 256 MiB w8a8, or int8 where the processor lacks exact kernels for w8a8.
   */
  dtype?: Dtype;
  /** Where exports of checkpoints are kept. Default: the user's cache folder, or QWEN3GUARD_CACHE. */
  cacheDir?: string;
  /**
   * Called while a checkpoint is fetched or exported, with bytes, and with "warm" while a GPU runs for the first time what
   * takes long then, with runs.
   */
  onProgress?: LoadProgress;
  signal?: AbortSignal;
}

/** In bytes; one of a checkpoint in a thousand shards has less. */
const LARGEST_NOTE = 1 << 20;

const EMBEDDED = fileURLToPath(packageFile("models/default"));

/**
 * Above this many bytes in float32, speed and memory matter more than exactness. The figures: docs/formats.md. Below, a
 * GPU has nothing to gain: starting its kernels takes as long as the processor needs for the whole step.
 */
const SMALL_MODEL_BYTES = 256 * 2 ** 20;

/**
 * Finds the model directory for what a user names: an exported directory as it is; a checkpoint, exported on first use
 * into a cache keyed by its content; a hub id, fetched first.
 *
 * @throws {InputError} MODEL_UNKNOWN, DTYPE_MISMATCH, UNKNOWN_DEVICE
 * @throws {DeviceError} CUDA_UNAVAILABLE
 * @throws {StorageError} OUTPUT_NOT_WRITABLE
 * @throws {ClosedError} ABORTED
 * @throws see `exportCheckpoint` and `pull`
 */
export function resolveModel(model: string | undefined, options: ResolveOptions = {}): Promise<string> {
  return namingAbort(options.signal, `Loading ${model ?? "the model"}`, () => find(model, options));
}

async function find(model: string | undefined, options: ResolveOptions): Promise<string> {
  const asked = parseDevice(options.device ?? "auto");
  const problem = asked === "auto" ? null : DEVICE_KINDS[asked.kind].problem();
  if (problem) throw problem;
  if (model === undefined) return exportOnce(EMBEDDED, options, await publishedHashes(EMBEDDED));
  if (existsSync(join(model, MANIFEST_FILE))) {
    const { dtype } = await readManifest(model);
    if (options.dtype && options.dtype !== dtype) {
      throw new InputError(
        "DTYPE_MISMATCH",
        `${model} was exported as ${dtype}, not ${options.dtype}. Leave the dtype out, or name the checkpoint.`,
      );
    }
    return resolve(model);
  }
  if (existsSync(model)) return exportOnce(model, options);
  // Who has a folder asks no hub, whose client takes long to load.
  const { cachedCheckpoint, isHubId, pull } = await import("./download/hub.js");
  if (!isHubId(model)) {
    throw new InputError(
      "MODEL_UNKNOWN",
      `"${model}" is neither a folder nor a hub id. Name an exported model, a checkpoint folder, or an id ` +
        'such as "Qwen/Qwen3Guard-Stream-0.6B".',
    );
  }
  const onProgress = (_file: string, loaded: number, total: number) =>
    options.onProgress?.("fetch", loaded, total);
  const snapshot =
    (await cachedCheckpoint(model)) ?? (await pull(model, { signal: options.signal, onProgress }));
  return exportOnce(snapshot, options);
}

async function exportOnce(
  checkpointDir: string,
  options: ResolveOptions,
  published?: Record<string, string>,
): Promise<string> {
  const cache = options.cacheDir ?? modelCache();
  const checkpoint = await Checkpoint.open(checkpointDir);
  let device: Device;
  let dtype: Dtype;
  let sources: Record<string, string>;
  try {
    device = chooseDevice(checkpoint, options);
    dtype = options.dtype ?? (device === "cpu" ? await defaultDtype(checkpoint) : usualFormat(device));
    sources = await hashes(checkpoint, cache, options);
    if (published) requirePublished(checkpointDir, sources, published);
  } finally {
    await checkpoint.close();
  }
  const key = digest(JSON.stringify([PACKAGE.version, FORMAT, GRAPH, sources]));
  const out = join(cache, `${basename(resolve(checkpointDir))}-${device}-${dtype}-${key}`);
  const { onProgress, signal } = options;
  try {
    if (existsSync(out)) {
      if (await isWhole(out, { device, dtype, sources, config: checkpoint.config }, cache)) return out;
      await rm(out, { recursive: true, force: true });
    }
    await exportCheckpoint(checkpointDir, out, {
      ...{ device, dtype, sources, signal },
      onProgress: (stage, done, total) => stage !== "check" && onProgress?.(stage, done, total),
    });
  } catch (error) {
    // Another process may have finished the same export meanwhile.
    if (!(error instanceof StorageError && error.code === "OUTPUT_EXISTS")) throw ofCache(error, cache);
  }
  return out;
}

/** The user chose no folder, so the message must say which it is. */
function ofCache(error: unknown, cache: string): unknown {
  const { code, message, syscall } = error as NodeJS.ErrnoException;
  if (error instanceof GuardError && error.code === "DISK_FULL") {
    const elsewhere = `${message} QWEN3GUARD_CACHE names a folder on another one.`;
    return new StorageError("DISK_FULL", elsewhere, { cause: error });
  }
  if (error instanceof GuardError ? error.code !== "OUTPUT_NOT_WRITABLE" : syscall === undefined)
    return error;
  return new StorageError(
    "OUTPUT_NOT_WRITABLE",
    `The folder for exports, ${cache}, cannot be used (${error instanceof GuardError ? message : code}). ` +
      "Set QWEN3GUARD_CACHE to a folder you may write to.",
    { cause: error },
  );
}

/**
 * Whether a folder of the cache holds the export that its name says, whole. Nobody exports into the cache by hand, so what
 * is damaged there, edited or swapped is made anew.
 */
async function isWhole(
  dir: string,
  expected: Pick<Manifest, "device" | "dtype" | "sources" | "config">,
  cache: string,
): Promise<boolean> {
  try {
    const manifest = await readManifest(dir);
    const { device, dtype, sources, config } = manifest;
    if (!isDeepStrictEqual({ device, dtype, sources, config }, expected)) return false;
    requireGuard(manifest, dir);
    await verifyFiles(dir, manifest, cache);
    return true;
  } catch (error) {
    if (error instanceof ModelError) return false;
    throw error;
  }
}

function chooseDevice(checkpoint: Checkpoint, { device = "auto", dtype }: ResolveOptions): Device {
  const asked = parseDevice(device);
  if (asked !== "auto") return asked.kind;
  const takes = (kind: Device) =>
    dtype === undefined || Object.hasOwn(DEVICE_KINDS[kind].graph.formats, dtype);
  if (takes("cpu") && isSmall(checkpoint)) return "cpu";
  return ACCELERATORS.find((kind) => takes(kind) && DEVICE_KINDS[kind].problem() === null) ?? "cpu";
}

function isSmall(checkpoint: Checkpoint): boolean {
  let values = 0;
  for (const name of checkpoint.tensors.keys())
    values += checkpoint.shape(name).reduce((n, dim) => n * dim, 1);
  return values * 4 <= SMALL_MODEL_BYTES;
}

async function defaultDtype(checkpoint: Checkpoint): Promise<Dtype> {
  if (isSmall(checkpoint)) return "fp32";
  return mustWidenBytes(true).then(
    () => "w8a8",
    () => "int8",
  );
}

/**
 * SHA-256 of the checkpoint's files. Hashing a large checkpoint takes seconds: files of the same path that are, by size
 * and times, the same as then are taken as unchanged.
 */
async function hashes(
  checkpoint: Checkpoint,
  cache: string,
  options: ResolveOptions,
): Promise<Record<string, string>> {
  const stamp = await fileStamp(checkpoint.dir);
  const note = join(cache, "checkpoints", `${digest(stamp)}.json`);
  const known = await readText(note, LARGEST_NOTE)
    .then(JSON.parse)
    .catch(() => null);
  if (isHashes(known)) return known;
  const { onProgress, signal } = options;
  const sources = await checkpoint.sha256((done, total) => onProgress?.("hash", done, total), signal);
  try {
    await writeWhole(note, JSON.stringify(sources));
  } catch {
    // Then they are hashed again next time. Whether the cache can be written is the export's to say.
  }
  return sources;
}

function isHashes(note: unknown): note is Record<string, string> {
  if (typeof note !== "object" || note === null) return false;
  const hashes: unknown[] = Object.values(note);
  return hashes.length > 0 && hashes.every((hash) => typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash));
}

const SUMS_FILE = "SHA256SUMS";
const LARGEST_SUMS = 65_536;

/** What `sha256sum` wrote of the embedded model's files. */
async function publishedHashes(dir: string): Promise<Record<string, string>> {
  const text = await readText(join(dir, SUMS_FILE), LARGEST_SUMS).catch((cause) => {
    throw notPublished(join(dir, SUMS_FILE), `cannot be read (${fileProblem(cause)})`);
  });
  return Object.fromEntries(
    [...text.matchAll(/^([0-9a-f]{64}) [ *](.+)$/gm)].map(([, hash, file]) => [file, hash]),
  );
}

/** @throws {CheckpointError} CHECKPOINT_CHANGED */
function requirePublished(
  dir: string,
  hashes: Record<string, string>,
  published: Record<string, string>,
): void {
  for (const file of new Set([...Object.keys(published), ...Object.keys(hashes)])) {
    if (hashes[file] !== published[file])
      throw notPublished(join(dir, file), "is not the file that came with it");
  }
}

function notPublished(path: string, is: string): CheckpointError {
  return new CheckpointError(
    "CHECKPOINT_CHANGED",
    `${path} of the package's own model ${is}. Install the package again.`,
  );
}

async function fileStamp(dir: string): Promise<string> {
  const files = (await readdir(dir).catch(() => [])).sort();
  const lines = await Promise.all(
    files.map(async (file) => {
      const found = await stat(join(dir, file), { bigint: true }).catch(() => null);
      return `${file} ${found && fileIdentity(found)}`;
    }),
  );
  return [resolve(dir), ...lines].join("\n");
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
