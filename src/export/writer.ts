import { type FileHandle, mkdir, open, rename, rm, statfs, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { threadId } from "node:worker_threads";
import { GuardError, StorageError } from "../errors.js";
import { makeFolder } from "../files/regular-file.js";
import { isFull, mendOf } from "../files/write-fault.js";
import { MODEL_FILE, WEIGHTS_FILE } from "../model/manifest.js";
import type { Graph } from "../onnx/graph.js";
import { encodeModel, type OnnxTensor } from "../onnx/model.js";

/** Smaller constants live in the model file itself; larger ones are mapped from the data file. */
const EXTERNAL_BYTES = 65_536;
/** Windows maps files at multiples of 64 KiB, Linux and macOS at less. */
const ALIGNMENT = 65_536;

export type WriteProgress = (writtenBytes: number, totalBytes: number) => void;

/** What was written: sizes of the files in bytes, and the graph's constants with their place in the data file. */
export interface WrittenModel {
  files: Record<string, number>;
  tensors: OnnxTensor[];
}

/** Writes model.onnx and model.onnx.data into `dir`. */
export async function writeModel(
  dir: string,
  graph: Graph,
  producer: { name: string; version: string },
  onProgress?: WriteProgress,
  signal?: AbortSignal,
): Promise<WrittenModel> {
  const tensors: OnnxTensor[] = [];
  const total = graph.initializers.reduce((sum, { bytes }) => sum + bytes, 0);
  await requireSpace(dir, total);
  let end = 0;
  let written = 0;
  const file = await open(join(dir, WEIGHTS_FILE), "w");
  try {
    for (const { name, type, dims, bytes, write } of graph.initializers) {
      signal?.throwIfAborted();
      const report = (length: number) => {
        written += length;
        onProgress?.(written, total);
      };
      if (bytes < EXTERNAL_BYTES) {
        const data = await collect(name, bytes, write);
        report(bytes);
        tensors.push({ name, type, dims, data });
        continue;
      }
      const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = offset;
      await write(async (piece) => {
        signal?.throwIfAborted();
        await writeAt(file, piece, end);
        end += piece.byteLength;
        report(piece.byteLength);
      });
      requireBytes(name, end - offset, bytes);
      tensors.push({ name, type, dims, data: { file: WEIGHTS_FILE, offset, length: bytes } });
    }
    await file.sync();
  } finally {
    await file.close();
  }
  const modelBytes = await writeGraph(dir, graph, producer, tensors, MODEL_FILE);
  return { files: { [MODEL_FILE]: modelBytes, [WEIGHTS_FILE]: end }, tensors };
}

/**
 * Writes model.onnx anew, or another graph beside it, over weights that are there already; constants that came to the graph
 * since must be small. Returns the file's size in bytes.
 */
export async function rewriteGraph(
  dir: string,
  graph: Graph,
  producer: { name: string; version: string },
  written: OnnxTensor[],
  file = MODEL_FILE,
): Promise<number> {
  const known = new Set(written.map(({ name }) => name));
  const tensors = [...written];
  for (const { name, type, dims, bytes, write } of graph.initializers) {
    if (!known.has(name)) tensors.push({ name, type, dims, data: await collect(name, bytes, write) });
  }
  return writeGraph(dir, graph, producer, tensors, file);
}

async function writeGraph(
  dir: string,
  graph: Graph,
  producer: { name: string; version: string },
  tensors: OnnxTensor[],
  file: string,
): Promise<number> {
  const model = encodeModel({
    producer: producer.name,
    producerVersion: producer.version,
    opsets: graph.opsets,
    graph: { nodes: graph.nodes, tensors, inputs: graph.inputs, outputs: graph.outputs },
  });
  await writeFile(join(dir, file), model);
  return model.byteLength;
}

/**
 * Fills a folder beside `out` and renames it to `out` once `fill` is done: nobody ever sees it half-written. What
 * was written is removed when `fill` throws.
 *
 * @throws {StorageError} OUTPUT_EXISTS, OUTPUT_NOT_WRITABLE, DISK_FULL
 */
export async function writeFolder(out: string, fill: (dir: string) => Promise<void>): Promise<void> {
  const target = resolve(out);
  const partial = claim(target);
  try {
    await makeFolder(dirname(target));
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial);
    await fill(partial);
    // Renaming onto an empty folder works; onto a filled one it fails, which is what we want.
    await rename(partial, target);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    throw error instanceof GuardError ? error : storageError(error, target);
  } finally {
    claimed.delete(partial);
  }
}

/** Folders that are being filled by this thread. */
const claimed = new Set<string>();

/** A folder to fill, for this call alone. Its name comes again in a later process, which sweeps it away. */
function claim(target: string): string {
  for (let n = 0; ; n++) {
    const name = `.${basename(target)}.${process.pid}-${threadId}-${n}.partial`;
    const partial = join(dirname(target), name);
    if (claimed.has(partial)) continue;
    claimed.add(partial);
    return partial;
  }
}

function storageError(error: unknown, target: string): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (typeof code !== "string") return error;
  const options = { cause: error };
  if (syscall !== "mkdir" && ["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(code)) {
    const message = `${target} exists already. Remove it or choose another folder.`;
    return new StorageError("OUTPUT_EXISTS", message, options);
  }
  const message = `${target} cannot be written (${code}). ${mendOf(error)}`;
  return new StorageError(isFull(error) ? "DISK_FULL" : "OUTPUT_NOT_WRITABLE", message, options);
}

async function requireSpace(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize >= bytes) return;
  throw new StorageError(
    "DISK_FULL",
    `${dirname(dir)} has ${mebibytes(bavail * bsize)} MiB free, and the model needs ${mebibytes(bytes)} MiB. ` +
      "Free some, or choose another disk.",
  );
}

const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);

async function collect(
  name: string,
  bytes: number,
  write: (sink: (piece: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<Uint8Array> {
  const data = new Uint8Array(bytes);
  let filled = 0;
  await write(async (piece) => {
    data.set(piece, filled);
    filled += piece.byteLength;
  });
  requireBytes(name, filled, bytes);
  return data;
}

/** One write takes less than 2 GiB; the 8B's own LM head in fp32 is more. */
const MOST_WRITTEN = 2 ** 30;

async function writeAt(file: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < piece.byteLength) {
    const next = piece.subarray(done, done + MOST_WRITTEN);
    const { bytesWritten } = await file.write(next, 0, next.byteLength, position + done);
    done += bytesWritten;
  }
}

function requireBytes(name: string, found: number, expected: number): void {
  if (found !== expected) throw new Error(`${name}: wrote ${found} bytes, expected ${expected}`);
}
