import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, realpath, rename, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

/** Like Node's own errors, with a `code`: NOT_A_FILE, FILE_TOO_LARGE, NOT_UTF8, PATH_INVALID. */
class FileProblem extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Opens a regular file, links followed. A pipe, a socket or a device would block, or never end.
 *
 * @throws an Error with a `code`: NOT_A_FILE, PATH_INVALID, or the operating system's
 */
export async function openRegular(path: string): Promise<FileHandle> {
  requirePath(path);
  // Before it is opened: opening a pipe waits for a writer, and opening a device may do something.
  requireFile((await stat(path)).isFile());
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    requireFile((await handle.stat()).isFile());
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function requirePath(path: string): void {
  if (path === "") throw new FileProblem("PATH_INVALID", "its name is empty");
  if (path.includes("\0")) throw new FileProblem("PATH_INVALID", "its name holds a NUL character");
}

function requireFile(is: boolean): void {
  if (!is) throw new FileProblem("NOT_A_FILE", "it is a folder, a pipe or a device, not a file");
}

/**
 * Where a file of that name is, links followed, or is to be. Whoever put a file in the place of a device, as a rename does,
 * would take that from everybody.
 *
 * @throws an Error with a `code`: NOT_A_FILE, PATH_INVALID, or the operating system's
 */
export async function writablePlace(path: string): Promise<string> {
  requirePath(path);
  try {
    requireFile((await stat(path)).isFile());
    return await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return path;
    throw error;
  }
}

/**
 * A text file as a whole; a byte order mark is left out.
 *
 * @throws as `openRegular`; and an Error with the `code` FILE_TOO_LARGE or NOT_UTF8
 */
export async function readText(path: string, maxBytes: number): Promise<string> {
  const handle = await openRegular(path);
  try {
    const { size } = await handle.stat();
    // Files that have no size, those of /proc for example, are read to their end.
    const bytes = Buffer.allocUnsafe(Math.min(maxBytes, size || 65_536) + 1);
    const pieces: Buffer[] = [];
    let total = 0;
    for (;;) {
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, total);
      if (bytesRead === 0) break;
      total += bytesRead;
      if (total > maxBytes) throw new FileProblem("FILE_TOO_LARGE", `it has more than ${maxBytes} bytes`);
      pieces.push(Buffer.from(bytes.subarray(0, bytesRead)));
    }
    return decode(Buffer.concat(pieces));
  } finally {
    await handle.close();
  }
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new FileProblem("NOT_UTF8", "it is not text in UTF-8");
  }
}

/** What is wrong with a file, in a few words: for the message of a named error. */
export function fileProblem(error: unknown): string {
  if (error instanceof FileProblem) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}

/**
 * Makes a folder and those above it. Node's own `recursive` never ends where a file system answers ENOENT though the
 * folder above exists, as /proc does.
 */
export async function makeFolder(path: string): Promise<void> {
  requirePath(path);
  const isFolder = async () => (await stat(path).catch(() => null))?.isDirectory() === true;
  if (await isFolder()) return;
  const above = dirname(path);
  if (above !== path) await makeFolder(above);
  await mkdir(path).catch(async (error) => {
    // Another process may have made it meanwhile.
    if (!(await isFolder())) throw error;
  });
}

/** Writes a file so that whoever reads it finds all of it, or none. @throws as `writablePlace` */
export async function writeWhole(path: string, text: string): Promise<void> {
  const place = await writablePlace(path);
  await makeFolder(dirname(place));
  const partial = `${place}.${randomUUID()}.partial`;
  await writeFile(partial, text);
  await rename(partial, place);
}
