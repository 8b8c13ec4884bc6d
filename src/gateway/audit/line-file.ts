import { close, constants, open, stat } from "node:fs";
import { promisify } from "node:util";
import { InputError, StorageError } from "../../errors.js";
import { mendOf } from "../../files/write-fault.js";
import { STANDARD_OUTPUT, writeSome } from "./write.js";

const files = { open: promisify(open), stat: promisify(stat), close: promisify(close) };

/** Bytes that are written at once. */
const BATCH = 64 * 2 ** 10;

/**
 * A file, or standard output, at whose end lines are written. Each is in one write, and the file is opened to append, so that
 * several processes may share it.
 */
export class LineFile {
  readonly path: string;
  #fd: number;
  /** A line was written in part. */
  #torn = false;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /**
   * @param path a file; "-": standard output
   * @throws {InputError} AUDIT_INVALID: it is a folder or a pipe
   * @throws {StorageError} AUDIT_UNWRITABLE
   */
  static async open(path: string): Promise<LineFile> {
    return new LineFile(path, await openToAppend(path));
  }

  /** Whether it is a file, and not standard output. */
  get hasName(): boolean {
    return this.path !== "-";
  }

  /** Opens what has its name now. @throws as `open` */
  async reopen(): Promise<void> {
    const fd = await openToAppend(this.path);
    await files.close(this.#fd);
    this.#fd = fd;
    this.#torn = false;
  }

  /**
   * Writes the first lines of a queue, with their ends, and takes off it what was written.
   *
   * @returns bytes that were taken off
   * @throws an Error with the operating system's `code`
   */
  async appendSome(queue: Buffer[]): Promise<number> {
    const lines: Buffer[] = this.#torn ? [Buffer.from("\n")] : [];
    const own = lines.length;
    let bytes = 0;
    for (const line of queue) {
      if (bytes > 0 && bytes + line.length > BATCH) break;
      lines.push(line);
      bytes += line.length;
    }
    const written = await writeSome(this.#fd, Buffer.concat(lines));
    let left = written - own;
    while (left > 0 && left >= queue[0].length) left -= (queue.shift() as Buffer).length;
    // A line that went out in part is written anew, on a line of its own: what other processes write may stand behind it.
    this.#torn = left > 0 && this.hasName;
    if (this.#torn) return written - own - left;
    // To standard output nobody else writes: the rest of the line goes on.
    if (left > 0) queue[0] = queue[0].subarray(left);
    return written - own;
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = -1;
    if (this.hasName && fd >= 0) await files.close(fd);
  }
}

async function openToAppend(path: string): Promise<number> {
  if (path === "-") return STANDARD_OUTPUT;
  let fd: number;
  try {
    const there = await files.stat(path).catch((error) => {
      if (error.code !== "ENOENT") throw error;
      return null;
    });
    // Opening a pipe would wait for somebody who reads it.
    if (there && !there.isFile() && !there.isCharacterDevice()) {
      const message = `The audit cannot be written to ${path}: it is a folder or a pipe. Name a file; "-" is standard output.`;
      throw new InputError("AUDIT_INVALID", message);
    }
    const { O_APPEND, O_CREAT, O_WRONLY } = constants;
    fd = await files.open(path, O_APPEND | O_CREAT | O_WRONLY, 0o600);
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw unwritable(path, error);
  }
  return fd;
}

/** What keeps lines from a file, as a named error. */
export function unwritable(path: string, cause: unknown): StorageError {
  if (cause instanceof StorageError) return cause;
  const name = path === "-" ? "standard output" : path;
  const { code, message } = cause as NodeJS.ErrnoException;
  return new StorageError(
    "AUDIT_UNWRITABLE",
    `The audit cannot be written to ${name} (${code ?? message}). ${mendOf(cause)} --audit names another file.`,
    { cause },
  );
}
