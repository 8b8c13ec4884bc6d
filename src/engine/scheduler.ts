import { ClosedError, type GuardError, QueueFullError } from "../errors.js";
import type { BatchRunner } from "./batch.js";
import type { KvCache } from "./cache.js";
import type { Sequence, SequenceOwner } from "./sequence.js";

/** Chunk of a prefill while tokens of other sequences keep coming: they wait no longer than this takes. */
const SHARED_CHUNK = 32;
/** Chunk of a prefill otherwise: enough for the kernels to be at their best. */
export const LONE_CHUNK = 256;
/** Tokens keep coming while the last came less than this many milliseconds ago: a slow LLM's pace, and some. */
const RECENT_MS = 500;

export interface SchedulerOptions {
  /** Sequences that may wait for a slot. */
  maxWaiting: number;
  /**
   * Idle rows that cost less than one more run of the model: sequences whose rows are further apart step
   * separately.
   */
  gapRows: number;
}

/** Sequences to step together, by ascending row, and the number of tokens each brings. */
interface Step {
  group: Sequence[];
  length: number;
}

/**
 * The step loop: one batch at a time on a worker thread, and what arrived meanwhile goes into the next. Steps for
 * single tokens and short chunks take turns with chunks of long prompts.
 */
export class Scheduler implements SequenceOwner {
  readonly #runner: BatchRunner;
  readonly #cache: KvCache;
  readonly #options: SchedulerOptions;
  readonly #rows: (Sequence | null)[];
  readonly #waiting = new Set<Sequence>();
  /** Sequences with something to run, in the order they asked. */
  readonly #ready = new Set<Sequence>();
  /** Rows that the step under way reads and writes. */
  #running: Sequence[] = [];
  #loop: Promise<void> | null = null;
  #chunkNext = false;
  /** When sequences last stepped together. */
  #togetherAt = Number.NEGATIVE_INFINITY;

  constructor(runner: BatchRunner, cache: KvCache, options: SchedulerOptions) {
    this.#runner = runner;
    this.#cache = cache;
    this.#options = options;
    this.#rows = new Array(cache.shape.slots).fill(null);
  }

  get active(): number {
    return this.#rows.filter((sequence) => sequence !== null).length;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Gives the sequence a slot, or a place in the queue. @throws {QueueFullError} QUEUE_FULL */
  admit(sequence: Sequence): void {
    if (this.#waiting.size === 0 && this.#seat(sequence)) return;
    if (this.#waiting.size >= this.#options.maxWaiting) {
      throw new QueueFullError(
        "QUEUE_FULL",
        `All ${this.#rows.length} slots are taken and ${this.#waiting.size} streams wait already. ` +
          "Close streams that are done, try again later, or raise maxStreams.",
      );
    }
    this.#waiting.add(sequence);
  }

  wake(sequence: Sequence): void {
    this.#ready.add(sequence);
    this.#loop ??= this.#run();
  }

  drop(sequence: Sequence): void {
    this.#ready.delete(sequence);
    this.#waiting.delete(sequence);
    // A step under way still writes to the row: it is freed when that ends.
    if (!this.#running.includes(sequence)) this.#vacate(sequence);
  }

  /** Closes every sequence and waits for the step under way. */
  async stop(): Promise<void> {
    const reason = () => new ClosedError("GUARD_CLOSED", "The guard was closed. Load it again to go on.");
    for (const sequence of [...this.#waiting, ...this.#rows]) sequence?.close(reason());
    await this.#loop;
  }

  async #run(): Promise<void> {
    for (;;) {
      // Lets everything that answers to the last step's results, and every token that came in, join this one.
      await new Promise(setImmediate);
      const steps = this.#plan();
      if (steps.length === 0) {
        this.#loop = null;
        return;
      }
      for (const { group, length } of steps) await this.#step(group, length);
    }
  }

  async #step(planned: Sequence[], length: number): Promise<void> {
    // Some may have closed, and their rows found new owners, while an earlier group of the same plan ran.
    const group = planned.filter((sequence) => sequence.slot !== null);
    if (group.length === 0) return;
    const firstRow = group[0].slot!;
    const rows = this.#rows.slice(firstRow, group.at(-1)!.slot! + 1);
    const active = rows.map((sequence) => sequence !== null && group.includes(sequence));
    this.#running = rows.filter((sequence) => sequence !== null);
    try {
      const logits = await this.#runner.run({ firstRow, rows, active, length });
      for (const sequence of group) sequence.advance(length, logits, (sequence.slot! - firstRow) * length);
    } catch (error) {
      for (const sequence of group) sequence.close(error as GuardError);
    } finally {
      const ran = this.#running;
      this.#running = [];
      for (const sequence of ran) if (sequence.failure) this.#vacate(sequence);
    }
  }

  /**
   * One token of every sequence with few waiting, or one chunk of a sequence with many; in turns where there are both.
   * Attention takes several tokens a row only for a single row, so a sequence that brings more tokens than there are
   * sequences to share a step with is better off alone.
   */
  #plan(): Step[] {
    const pending = new Map<Sequence, number>();
    for (const sequence of this.#ready) {
      const count = sequence.slot === null ? 0 : sequence.pending();
      if (count > 0) pending.set(sequence, count);
      else this.#ready.delete(sequence);
    }
    const together: Sequence[] = [];
    let alone: Sequence | undefined;
    for (const [sequence, count] of pending) {
      if (count <= pending.size) together.push(sequence);
      else alone ??= sequence;
    }
    if (alone && (this.#chunkNext || together.length === 0)) {
      this.#chunkNext = false;
      const chunk = performance.now() - this.#togetherAt < RECENT_MS ? SHARED_CHUNK : LONE_CHUNK;
      return [{ group: [alone], length: Math.min(pending.get(alone)!, chunk) }];
    }
    this.#chunkNext = true;
    if (together.length > 0) this.#togetherAt = performance.now();
    return this.#neighbours(together).map((group) => ({ group, length: 1 }));
  }

  /** Groups sequences by row, apart where the rows between would cost more than another run. */
  #neighbours(sequences: Sequence[]): Sequence[][] {
    const groups: Sequence[][] = [];
    let previous = Number.NEGATIVE_INFINITY;
    for (const sequence of sequences.sort((a, b) => a.slot! - b.slot!)) {
      const gap = sequence.slot! - previous - 1;
      if (gap <= this.#options.gapRows) groups.at(-1)!.push(sequence);
      else groups.push([sequence]);
      previous = sequence.slot!;
    }
    return groups;
  }

  #seat(sequence: Sequence): boolean {
    const slot = this.#cache.acquire();
    if (slot === null) return false;
    sequence.slot = slot;
    this.#rows[slot] = sequence;
    return true;
  }

  #vacate(sequence: Sequence): void {
    if (sequence.slot === null) return;
    this.#rows[sequence.slot] = null;
    this.#cache.release(sequence.slot);
    sequence.slot = null;
    const next = this.#waiting.values().next().value;
    if (next && this.#seat(next)) {
      this.#waiting.delete(next);
      this.wake(next);
    }
  }
}
