import { setTimeout as sleep } from "node:timers/promises";
import { StorageError } from "../../errors.js";
import type { AuditEntry } from "./entry.js";
import { AuditKey } from "./key.js";
import { LineFile, unwritable } from "./line-file.js";

/** Bytes that may wait. */
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
  readonly #file: LineFile;
  readonly #options: AuditLogOptions;
  readonly #queue: Buffer[] = [];
  #bytes = 0;
  #failures = 0;
  #unwritable: StorageError | null = null;
  #reopening = false;
  #work: Promise<void> | null = null;
  #retry: NodeJS.Timeout | null = null;

  private constructor(file: LineFile, options: AuditLogOptions) {
    this.#file = file;
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
    return new AuditLog(await LineFile.open(path), options);
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
    if (!this.#file.hasName) return;
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
    await this.#file.close();
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
        if (this.#reopening) {
          await this.#file.reopen();
          this.#reopening = false;
        }
        const written = this.#queue.length > 0 ? await this.#file.appendSome(this.#queue) : 0;
        this.#bytes -= written;
      }
    } catch (cause) {
      this.#failures++;
      this.#tell(unwritable(this.#file.path, cause));
      return;
    }
    this.#tell(null);
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
