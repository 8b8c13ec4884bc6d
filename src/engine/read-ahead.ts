import { ClosedError, type GuardError } from "../errors.js";
import type { Sequence } from "./sequence.js";

/** Ids that later sequences will begin with, and the positions whose logits they will want. */
export interface Ahead {
  ids: readonly number[];
  reads: readonly number[];
}

/** What it needs of an engine. */
export interface Background {
  readonly maxStreams: number;
  /** For how many milliseconds nothing has run. */
  readonly restedMs: number;
  openBackground(key: string): Sequence;
}

interface Job {
  key: string;
  /** Done once, when its turn has come; null where there is nothing to read. */
  prepare: () => Promise<Ahead | null>;
  prepared?: Promise<Ahead | null>;
}

/** Milliseconds without a step before something is read ahead: tokens of slow models come faster. */
const REST_MS = 500;

/**
 * Reads what later sequences are likely to begin with, while nothing else runs: after a rest, one at a time, and given up
 * at the first token of anybody else's, to be gone on with after the next rest. Failures concern nobody.
 */
export class ReadAhead {
  readonly #engine: Background;
  /** Those whose users will come back first, first. */
  readonly #jobs: Job[] = [];
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(engine: Background) {
    this.#engine = engine;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#jobs.length;
  }

  /** @param prepare what to read: asked for after a rest */
  add(key: string, prepare: Job["prepare"]): void {
    if (this.#closed) return;
    this.#jobs.push({ key, prepare });
    // Each would take a slot's content away from another.
    if (this.#jobs.length > this.#engine.maxStreams) this.#jobs.shift();
    this.#wait(REST_MS);
  }

  close(): void {
    this.#closed = true;
    this.#jobs.length = 0;
    if (this.#timer) clearTimeout(this.#timer);
  }

  #wait(ms: number): void {
    // What nobody waits for keeps no process alive.
    this.#timer ??= setTimeout(() => {
      this.#goOn().then((wait) => {
        this.#timer = null;
        if (this.#jobs.length > 0 && !this.#closed) this.#wait(wait);
      });
    }, ms).unref();
  }

  /** @returns after how many milliseconds to go on */
  async #goOn(): Promise<number> {
    const left = REST_MS - this.#engine.restedMs;
    if (left > 0) return left;
    const [job] = this.#jobs;
    if (!job || (await this.#read(job))) return 0;
    return REST_MS;
  }

  /** @returns whether it is done with */
  async #read(job: Job): Promise<boolean> {
    job.prepared ??= job.prepare();
    const ahead = await job.prepared.catch(() => null);
    // Others may have come meanwhile.
    if (ahead && this.#engine.restedMs < REST_MS) return false;
    const read = ahead === null || (await this.#feed(job.key, ahead));
    const at = this.#jobs.indexOf(job);
    if (read && at !== -1) this.#jobs.splice(at, 1);
    return read;
  }

  async #feed(key: string, { ids, reads }: Ahead): Promise<boolean> {
    let sequence: Sequence;
    try {
      sequence = this.#engine.openBackground(key);
      await sequence.feed(ids, () => {}, 0, reads);
    } catch (error) {
      // STREAM_CLOSED: it had to give way.
      return (error as GuardError).code !== "STREAM_CLOSED";
    }
    sequence.close(new ClosedError("STREAM_ENDED", "It is read."));
    return true;
  }
}
