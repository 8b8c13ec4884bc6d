import { close, constants, open, stat } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { InputError, StorageError } from "../../errors.js";
import { mendOf } from "../../files/write-fault.js";
import type { AuditEntry } from "./entry.js";
import { AuditKey } from "./key.js";
import { STANDARD_OUTPUT, writeSome } from "./write.js";

const files = { open: promisify(open), stat: promisify(stat), close: promisify(close) };

/** Bytes that are written at once, and that may wait. */
const BATCH = 64 * 2 ** 10;
const MOST_WAITING = 16 * 2 ** 20;
/** Milliseconds until what failed is tried again. */
const RETRY_MS = 1000;

export interface AuditLogOptions {
  /** What texts are hashed with, at least 16 bytes. Default: a random one of this process. */
  key?: string | Uint8Array;
  /** Whether entries hold the texts themselves. Default false. */
  text?: boolean;
  /** Told when lines cannot be written, and when they can again. */
  onChange?: (unwritable: StorageError | null) => void;
  /** Bytes that may wait before nothing more is taken. Default 16 MiB. */
  mostWaiting?: number;
}

/**
 * Decisions as lines of JSON, appended to a file or to standard output, in order and behind the event loop's back. Each line
 * is in one write, and the file is opened to append, so that several processes may share it. What cannot be written waits and
 * is tried again; while it does, `unwritable` says why, and whoever makes decisions is to make no more.
 */
export class AuditLog {
  readonly key: AuditKey;
  readonly text: boolean;
  readonly #path: string;
  readonly #options: AuditLogOptions;
  #fd: number;
  #queue: Buffer[] = [];
  #bytes = 0;
  #failures = 0;
  #unwritable: StorageError | null = null;
  /** A line was written in part. */
  #torn = false;
  #reopening = false;
  #work: Promise<void> | null = null;
  #retry: NodeJS.Timeout | null = null;

  private constructor(path: string, fd: number, options: AuditLogOptions) {
    this.#path = path;
    this.#fd = fd;
    this.#options = options;
    this.key = new AuditKey(options.key ?? null);
    this.text = options.text ?? false;
  }

  /**
   * @param path a file; "-": standard output
   * @throws {InputError} AUDIT_KEY_INVALID, AUDIT_INVALID: it is a folder or a pipe
   * @throws {StorageError} AUDIT_UNWRITABLE
   */
  static async open(path: string, options: AuditLogOptions = {}): Promise<AuditLog> {
    return new AuditLog(path, await openToAppend(path), options);
  }

  /** Why lines cannot be written, while they cannot. */
  get unwritable(): StorageError | null {
    if (this.#unwritable || this.#bytes <= (this.#options.mostWaiting ?? MOST_WAITING))
      return this.#unwritable;
    return new StorageError("AUDIT_UNWRITABLE", "The audit is written more slowly than decisions are made.");
  }

  /** Writes that failed, so far. */
  get failures(): number {
    return this.#failures;
  }

  /** Lines that are not written yet. */
  get waiting(): number {
    return this.#queue.length;
  }

  write(entry: AuditEntry): void {
    const line = Buffer.from(`${lineOf(entry)}\n`);
    this.#queue.push(line);
    this.#bytes += line.length;
    if (!this.#retry) this.#start();
  }

  /** Opens the file anew, as the one that it has may have been given another name. */
  reopen(): void {
    if (this.#path === "-") return;
    this.#reopening = true;
    this.#start();
  }

  /**
   * Writes what waits, for so long, and closes the file.
   *
   * @returns lines that could not be written
   */
  async close(graceMs = 5000): Promise<number> {
    const end = new AbortController();
    const late = sleep(graceMs, undefined, { signal: end.signal }).catch(() => {});
    while (this.#queue.length > 0) {
      this.#start();
      const over = await Promise.race([this.#work?.then(() => false), late.then(() => true)]);
      if (over) return this.#queue.length;
      if (this.#unwritable) await Promise.race([sleep(RETRY_MS / 10), late]);
    }
    end.abort();
    await this.#work;
    if (this.#retry) clearTimeout(this.#retry);
    const fd = this.#fd;
    this.#fd = -1;
    if (this.#path !== "-" && fd >= 0) await files.close(fd);
    return 0;
  }

  #start(): void {
    this.#work ??= this.#run().finally(() => {
      this.#work = null;
      if (this.#unwritable) {
        this.#retry ??= setTimeout(() => {
          this.#retry = null;
          this.#start();
        }, RETRY_MS).unref();
      } else if (this.#queue.length > 0) this.#start();
    });
  }

  async #run(): Promise<void> {
    // What is decided in the same turn of the event loop goes out in one write.
    await null;
    try {
      while (this.#queue.length > 0 || this.#reopening) {
        if (this.#reopening) await this.#open();
        if (this.#queue.length > 0) await this.#writeSome();
      }
    } catch (cause) {
      this.#failures++;
      this.#tell(unwritable(this.#path, cause));
      return;
    }
    this.#tell(null);
  }

  async #open(): Promise<void> {
    const fd = await openToAppend(this.#path);
    await files.close(this.#fd);
    this.#fd = fd;
    this.#torn = false;
    this.#reopening = false;
  }

  async #writeSome(): Promise<void> {
    const lines: Buffer[] = this.#torn ? [Buffer.from("\n")] : [];
    const own = lines.length;
    let bytes = 0;
    for (const line of this.#queue) {
      if (bytes > 0 && bytes + line.length > BATCH) break;
      lines.push(line);
      bytes += line.length;
    }
    let left = await writeSome(this.#fd, Buffer.concat(lines));
    if (own > 0 && left > 0) {
      left--;
      this.#torn = false;
    }
    // A line that went out in part is written anew, on a line of its own: what other processes write may stand behind it.
    while (left > 0 && left >= this.#queue[0].length) {
      left -= this.#queue[0].length;
      this.#bytes -= (this.#queue.shift() as Buffer).length;
    }
    if (left === 0) return;
    if (this.#path === "-") {
      // Nobody else writes there: the rest of it goes on.
      this.#queue[0] = this.#queue[0].subarray(left);
      this.#bytes -= left;
    } else this.#torn = true;
  }

  #tell(now: StorageError | null): void {
    const changed = (now === null) !== (this.#unwritable === null);
    this.#unwritable = now;
    if (changed) this.#options.onChange?.(now);
  }
}

/** Some readers of lines take these for ends of a line. */
function lineOf(entry: AuditEntry): string {
  return JSON.stringify(entry).replace(/[\u2028\u2029]/g, (end) =>
    end === "\u2028" ? "\\u2028" : "\\u2029",
  );
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

function unwritable(path: string, cause: unknown): StorageError {
  if (cause instanceof StorageError) return cause;
  const name = path === "-" ? "standard output" : path;
  const { code, message } = cause as NodeJS.ErrnoException;
  return new StorageError(
    "AUDIT_UNWRITABLE",
    `The audit cannot be written to ${name} (${code ?? message}). ${mendOf(cause)} --audit names another file.`,
    { cause },
  );
}
