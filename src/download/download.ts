import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { ClosedError, GuardError, StorageError } from "../errors.js";
import { fileSize } from "./hub-cache.js";

export interface Download {
  /** Asks for the file with the given headers (a Range). Throws a GuardError where trying again is pointless. */
  request(headers: Record<string, string>): Promise<Response>;
  /** Where the finished file appears; until then it grows as `<path>.incomplete`. */
  path: string;
  size: number;
  /** SHA-256 in hex for Git LFS files; for others Git's SHA-1 of the blob. */
  oid: string;
  /** The environment variable by which the user chooses another folder. */
  folderVariable: string;
  onProgress?(loaded: number): void;
  signal?: AbortSignal;
}

const ATTEMPTS_WITHOUT_PROGRESS = 5;

/**
 * Fetches one file, continuing an earlier attempt where it stopped, and lets it appear under its name only when size
 * and hash agree. (`@huggingface/hub` starts over after an interruption, and checks neither.)
 *
 * Two processes may fetch the same file at once: both write the same bytes at the same places.
 *
 * Throws StorageError: DOWNLOAD_CUT, DOWNLOAD_CORRUPT, DISK_FULL, CACHE_UNWRITABLE.
 */
export async function download(task: Download): Promise<void> {
  const incomplete = `${task.path}.incomplete`;
  const file = await open(incomplete, constants.O_RDWR | constants.O_CREAT, 0o644).catch((cause) => {
    throw writeFailure(incomplete, cause, task.folderVariable);
  });
  try {
    const oid = await fetchInto(file, task);
    if (oid !== task.oid) {
      await rm(incomplete, { force: true });
      throw new StorageError(
        "DOWNLOAD_CORRUPT",
        `${task.path} arrived damaged: its hash is ${oid}, announced was ${task.oid}. It was deleted; try again. ` +
          `If it happens twice, something on the way (a proxy, a mirror) alters files.`,
      );
    }
  } finally {
    await file.close();
  }
  try {
    await rename(incomplete, task.path);
  } catch (cause) {
    // Another process that fetched it too has just done this.
    if ((await fileSize(task.path)) !== task.size) throw writeFailure(task.path, cause, task.folderVariable);
  }
}

/** Returns the hash of what the file then holds. */
async function fetchInto(file: FileHandle, task: Download): Promise<string> {
  let loaded = (await file.stat()).size;
  if (loaded > task.size) {
    await file.truncate(0);
    loaded = 0;
  }
  let hash = newHash(task);
  await hashStart(file, loaded, hash);
  task.onProgress?.(loaded);

  let farthest = loaded;
  for (let attempt = 0; loaded < task.size; ) {
    let problem: unknown = null;
    try {
      const response = await task.request({ Range: `bytes=${loaded}-`, "Accept-Encoding": "identity" });
      if (response.status !== 206 || !response.headers.get("content-range")?.startsWith(`bytes ${loaded}-`)) {
        // Not what was asked for: a server without ranges sends everything.
        if (response.status !== 200) throw new Error(`unexpected answer ${response.status}`);
        loaded = 0;
        hash = newHash(task);
      }
      for await (const chunk of response.body ?? []) {
        if (loaded + chunk.length > task.size) throw new Error("the server sends more than the file's size");
        await write(file, chunk, loaded, task);
        hash.update(chunk);
        loaded += chunk.length;
        task.onProgress?.(loaded);
      }
    } catch (error) {
      if (error instanceof GuardError) throw error;
      task.signal?.throwIfAborted();
      problem = error;
    }
    if (loaded === task.size) break;
    attempt = loaded > farthest ? 0 : attempt + 1;
    farthest = Math.max(farthest, loaded);
    if (attempt === ATTEMPTS_WITHOUT_PROGRESS) throw cut(task, loaded, problem);
    await delay(attempt === 0 ? 0 : 125 * 2 ** attempt, undefined, { signal: task.signal });
  }
  return hash.digest("hex");
}

function newHash(task: Download): Hash {
  return task.oid.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${task.size}\0`);
}

async function hashStart(file: FileHandle, length: number, hash: Hash): Promise<void> {
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (let position = 0; position < length; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - position), position);
    if (bytesRead === 0)
      throw new StorageError("DOWNLOAD_CUT", "The partial download shrank meanwhile. Try again.");
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}

async function write(file: FileHandle, chunk: Uint8Array, position: number, task: Download): Promise<void> {
  try {
    for (let done = 0; done < chunk.length; ) {
      done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
    }
  } catch (cause) {
    throw writeFailure(task.path, cause, task.folderVariable);
  }
}

/** What stopped the fetching of a repository into a folder, for whoever asked for it. */
export function pullFailure(
  error: unknown,
  {
    repo,
    dir,
    folderVariable,
    signal,
  }: { repo: string; dir: string; folderVariable: string; signal?: AbortSignal },
): unknown {
  if (signal?.aborted) {
    const message = `Fetching ${repo} was aborted. Run it again: the download continues where it stopped.`;
    return new ClosedError("ABORTED", message, { cause: signal.reason });
  }
  const { syscall } = error as NodeJS.ErrnoException;
  return error instanceof GuardError || !syscall ? error : writeFailure(dir, error, folderVariable);
}

/** The StorageError for a failed write into the cache. */
export function writeFailure(path: string, cause: unknown, folderVariable: string): StorageError {
  const problem = (cause as NodeJS.ErrnoException).code ?? String(cause);
  if (problem === "ENOSPC" || problem === "EDQUOT") {
    return new StorageError(
      "DISK_FULL",
      `The disk is full while writing ${path}. Free some space, or set ${folderVariable} to a folder on another disk; the ` +
        `download continues where it stopped.`,
      { cause },
    );
  }
  return new StorageError(
    "CACHE_UNWRITABLE",
    `${path} cannot be written (${problem}). Check the folder's permissions, or set ${folderVariable} to another folder.`,
    { cause },
  );
}

function cut(task: Download, loaded: number, cause: unknown): StorageError {
  return new StorageError(
    "DOWNLOAD_CUT",
    `The connection broke ${ATTEMPTS_WITHOUT_PROGRESS} times in a row at byte ${loaded} of ${task.size} of ` +
      `${task.path}${cause ? ` (${networkProblem(cause)})` : ""}. Try again: the download continues where it stopped.`,
    { cause },
  );
}

/** What lies behind fetch's "fetch failed" and "terminated". */
export function networkProblem(error: unknown): string {
  const { message, cause } = error as Error & { cause?: NodeJS.ErrnoException };
  return cause?.code ?? cause?.message ?? message;
}
