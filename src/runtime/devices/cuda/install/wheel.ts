import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { Transform } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import yauzl from "yauzl";
import { writeFailure } from "../../../../download/download.js";
import { GuardError, StorageError } from "../../../../errors.js";

type ZipFile = Awaited<ReturnType<typeof yauzl.openPromise>>;
type Entry = yauzl.Entry;

export interface Extraction {
  /** Path of the wheel. */
  wheel: string;
  /** File names of the members wanted. */
  libraries: readonly string[];
  /** Folder they go into. */
  folder: string;
  onProgress?(library: string, written: number, total: number): void;
  signal?: AbortSignal;
}

/**
 * Unpacks libraries of a wheel, which is a zip file. Each appears under its name only once size and SHA-256 agree with
 * the wheel's own RECORD.
 *
 * @throws {StorageError} WHEEL_DAMAGED, WHEEL_INCOMPLETE, DISK_FULL, CACHE_UNWRITABLE
 */
export async function extractLibraries(extraction: Extraction): Promise<void> {
  const { wheel, libraries } = extraction;
  let zip: ZipFile | undefined;
  try {
    zip = await yauzl.openPromise(wheel, { autoClose: false });
    const entries = new Map<string, Entry>();
    for await (const entry of zip.eachEntry()) {
      const name = basename(entry.fileName);
      if (libraries.includes(name) || /^[^/]+\.dist-info\/RECORD$/.test(entry.fileName))
        entries.set(name, entry);
    }
    const record = entries.get("RECORD");
    const hashes = readRecord(record ? await text(await zip.openReadStreamPromise(record)) : "");
    for (const library of libraries) {
      const entry = entries.get(library);
      const sha256 = entry && hashes.get(entry.fileName);
      if (!entry || !sha256) {
        throw new StorageError(
          "WHEEL_INCOMPLETE",
          `${wheel} holds no ${library}, or names no hash of it. Fetch it again.`,
        );
      }
      await extract(zip, entry, sha256, extraction);
    }
  } catch (cause) {
    if (cause instanceof GuardError || extraction.signal?.aborted) throw cause;
    if ((cause as NodeJS.ErrnoException).syscall)
      throw writeFailure(extraction.folder, cause, "QWEN3GUARD_CUDA");
    throw damaged(wheel, (cause as Error).message);
  } finally {
    zip?.close();
  }
}

async function extract(zip: ZipFile, entry: Entry, sha256: string, extraction: Extraction): Promise<void> {
  const { wheel, folder, onProgress, signal } = extraction;
  const name = basename(entry.fileName);
  const path = join(folder, name);
  // Two installations may run at once.
  const partial = `${path}.${process.pid}.partial`;
  const hash = createHash("sha256");
  let written = 0;
  const watch = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      written += chunk.length;
      onProgress?.(name, written, entry.uncompressedSize);
      done(null, chunk);
    },
  });
  try {
    await pipeline(await zip.openReadStreamPromise(entry), watch, createWriteStream(partial), { signal });
    if (hash.digest("base64url") !== sha256)
      throw damaged(wheel, `${name} has another hash than its RECORD says`);
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}

/** SHA-256 by member: RECORD is lines of `path,sha256=<base64url without padding>,bytes`. */
function readRecord(record: string): Map<string, string> {
  const lines = record.matchAll(/^"?([^",\n]+)"?,sha256=([\w-]{43}),\d+\r?$/gm);
  return new Map([...lines].map(([, path, sha256]) => [path, sha256]));
}

function damaged(wheel: string, problem: string): StorageError {
  return new StorageError("WHEEL_DAMAGED", `${wheel} is damaged (${problem}). Fetch it again.`);
}
