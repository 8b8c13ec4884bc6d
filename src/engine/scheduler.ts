import { ClosedError, type GuardError, QueueFullError } from "../errors.js";
import type { BatchRunner } from "./batch.js";
import type { KvCache } from "./cache.js";
import { fitInRow, isBetterApart, type StepCosts } from "./costs.js";
import type { GuestRuns } from "./guest-runs.js";
import type { RowPlan, RowRange } from "./rows.js";
import type { Sequence, SequenceOwner } from "./sequence.js";
import { type PrefixTotals, Slots } from "./slots.js";

/** Tokens keep coming while the last came less than this many milliseconds ago: a slow LLM's pace, and some. */
const RECENT_MS = 500;

export interface SchedulerOptions extends StepCosts {
  /** Sequences that may wait for a slot. */
  maxWaiting: number;
  rows: RowPlan;
  /** Tokens that free slots keep for sequences that begin alike; 0 keeps none. */
  keptTokens: number;
  /** Chunks of one sequence that are recorded, ascending: more tokens than `fewTokens` and not too many go in these. */
  recordedChunks?: readonly number[];
  /** Chunks of one sequence have one of these lengths, ascending, each in turn the longest that fits. Default: any. */
  chunkLengths?: readonly number[];
}

/** Sequences to step together, the rows of that run, and the number of tokens each sequence brings. */
interface Step {
  group: Sequence[];
  rows: RowRange;
  length: number;
  /** In whose row those of the group run, behind what that holds, and how many tokens of its own it brings. */
  host?: Sequence;
  own?: number;
}

/**
 * The step loop: one batch at a time on a worker thread, and what arrived meanwhile goes into the next. Steps for
 * single tokens and short chunks take turns with chunks of long prompts.
 */
export class Scheduler implements SequenceOwner {
  readonly #runner: BatchRunner;
  readonly #guestRuns: GuestRuns;
  readonly #options: SchedulerOptions;
  readonly #slots: Slots;
  readonly #waiting = new Set<Sequence>();
  /** Sequences with something to run, in the order they asked. */
  readonly #ready = new Set<Sequence>();
  /** Rows that the step under way reads and writes. */
  #running: Sequence[] = [];
  #loop: Promise<void> | null = null;
  #chunkNext = false;
  #shortestNext = false;
  /** When sequences last stepped together. */
  #togetherAt = Number.NEGATIVE_INFINITY;
  /** Runs while no other does. */
  #background: Sequence | null = null;
  /** When anything else ran last. */
  #busyAt = Number.NEGATIVE_INFINITY;

  constructor(runner: BatchRunner, guestRuns: GuestRuns, cache: KvCache, options: SchedulerOptions) {
    this.#runner = runner;
    this.#guestRuns = guestRuns;
    this.#options = options;
    this.#slots = new Slots(cache, options.keptTokens, (counts, length) => fitInRow(options, counts, length));
  }

  /** As `PrefixCache.publish`. */
  publish(ids: readonly number[]): void {
    this.#slots.publish(ids);
  }

  get active(): number {
    return this.#slots.rows.filter((sequence) => sequence !== null && !sequence.background).length;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get prefixTotals(): PrefixTotals {
    return this.#slots.totals;
  }

  /** For how many milliseconds nothing has run; 0 while something does, or waits to. */
  get restedMs(): number {
    return this.#ready.size > 0 || this.#waiting.size > 0 ? 0 : performance.now() - this.#busyAt;
  }

  /**
   * Gives the sequence a slot, or a place in the queue; one for the background is closed where it does not get a slot.
   *
   * @throws {QueueFullError} QUEUE_FULL
   */
  admit(sequence: Sequence): void {
    if (this.#waiting.size === 0 && this.#slots.seat(sequence)) {
      if (sequence.background) this.#background = sequence;
      return;
    }
    if (sequence.background) {
      sequence.close(gaveWay());
      return;
    }
    if (this.#waiting.size >= this.#options.maxWaiting) {
      throw new QueueFullError(
        "QUEUE_FULL",
        `All ${this.#slots.rows.length} slots are taken and ${this.#waiting.size} streams wait already. ` +
          "Close streams that are done, try again later, or raise maxStreams.",
      );
    }
    this.#waiting.add(sequence);
    this.#slots.rows.find((row) => row?.yields && !row.failure)?.close(gaveWay());
  }

  wake(sequence: Sequence): void {
    if (!sequence.background) this.#background?.close(gaveWay());
    this.#ready.add(sequence);
    this.#loop ??= this.#run();
  }

  drop(sequence: Sequence): void {
    this.#ready.delete(sequence);
    this.#waiting.delete(sequence);
    if (this.#background === sequence) this.#background = null;
    // A step under way still writes to the row: it is freed when that ends.
    if (!this.#running.includes(sequence)) this.#vacate(sequence);
    else if (sequence.background) this.#runner.interrupt();
  }

  /** Closes every sequence and waits for the step under way. */
  async stop(): Promise<void> {
    const reason = () => new ClosedError("GUARD_CLOSED", "The guard was closed. Load it again to go on.");
    for (const sequence of [...this.#waiting, ...this.#slots.rows]) sequence?.close(reason());
    await this.#loop;
  }

  async #run(): Promise<void> {
    for (;;) {
      // Lets everything that answers to the last step's results, and every token that came in, join this one.
      await new Promise(setImmediate);
      await this.#slots.begin(this.#ready);
      const steps = this.#plan();
      for (const step of steps) await (step.host ? this.#stepAsGuests(step, step.host) : this.#step(step));
      // Some were fed while others began, and have to begin first.
      if (steps.length > 0 || this.#toBegin()) continue;
      this.#loop = null;
      return;
    }
  }

  #toBegin(): boolean {
    for (const sequence of this.#ready)
      if (sequence.slot !== null && !this.#slots.hasBegun(sequence)) return true;
    return false;
  }

  async #step({ group: planned, rows: { first: firstRow, count }, length }: Step): Promise<void> {
    // Some may have closed, and their rows found new owners, while an earlier group of the same plan ran.
    const group = planned.filter((sequence) => sequence.slot !== null);
    if (group.length === 0) return;
    const rows = this.#slots.rows.slice(firstRow, firstRow + count);
    const active = rows.map((sequence) => sequence !== null && group.includes(sequence));
    this.#running = rows.filter((sequence) => sequence !== null);
    const background = group[0].background;
    try {
      const held = rows.map((_, i) => this.#slots.heldAt(firstRow + i));
      const asked = this.#runner.asks ? Math.max(...group.map((sequence) => sequence.asked(length))) : length;
      const logits = await this.#runner.run({ firstRow, rows, held, active, length, asked }, { background });
      for (const sequence of group) sequence.advance(length, logits, sequence.slot! - firstRow, asked);
    } catch (error) {
      for (const sequence of group) sequence.close(error as GuardError);
    } finally {
      const ran = this.#running;
      this.#running = [];
      if (!background) this.#busyAt = performance.now();
      for (const sequence of ran) if (sequence.failure) this.#vacate(sequence);
    }
  }

  /** A run for those that have no row of their own yet. */
  async #stepAsGuests({ group, own = 0 }: Step, host: Sequence): Promise<void> {
    const guests = group.filter((guest) => guest.slot !== null);
    if (guests.length === 0 || host.slot === null) return;
    this.#running = [host];
    try {
      await this.#guestRuns.run({ guests, own }, host);
    } catch (error) {
      for (const guest of guests) guest.close(error as GuardError);
    } finally {
      this.#running = [];
      this.#busyAt = performance.now();
      for (const guest of guests) this.#slots.leave(guest);
      if (host.failure) this.#vacate(host);
    }
  }

  /** One token of every sequence with few waiting, or one chunk of a sequence with many; in turns where there are both. */
  #plan(): Step[] {
    const pending = new Map<Sequence, number>();
    for (const sequence of this.#ready) {
      if (!this.#slots.hasBegun(sequence) || this.#slots.isHost(sequence)) continue;
      const count = sequence.slot === null ? 0 : sequence.pending();
      if (count > 0) pending.set(sequence, count);
      else this.#ready.delete(sequence);
    }
    const [together, chunks]: Sequence[][] = [[], []];
    for (const [sequence, count] of pending) {
      const tokens = { held: sequence.length, count, awaited: () => sequence.awaited() };
      (isBetterApart(this.#options, tokens, pending.size) ? chunks : together).push(sequence);
    }
    const hosts = new Map(this.#slots.guests);
    for (const [guest, host] of hosts) pending.set(guest, guest.wantedBehind(host.length));
    // Chunks that nobody waits for come behind all that somebody does.
    const awaited = [...chunks.filter(({ isAwaited }) => isAwaited), ...hosts.keys()];
    const apart = awaited.length > 0 || together.some(({ isAwaited }) => isAwaited) ? awaited : chunks;
    if (apart.length > 0 && (this.#chunkNext || together.length === 0)) {
      this.#chunkNext = false;
      const alone = this.#nextOf(apart, pending);
      const small = alone.background || performance.now() - this.#togetherAt < RECENT_MS;
      const { sharedChunk, loneChunk, leftover = 0 } = this.#options;
      const count = pending.get(alone)!;
      const [usual, more] = small ? [sharedChunk, 0] : [loneChunk, leftover];
      const host = hosts.get(alone);
      if (host) {
        const others = [...hosts.keys()].filter((guest) => guest !== alone && hosts.get(guest) === host);
        const { guests, own } = this.#guestRuns.group([alone, ...others], host, usual + more);
        return [{ group: guests, rows: { first: host.slot!, count: 1 }, length: count, host, own }];
      }
      const length = this.#chunkLength(count, count > usual + more ? usual : count);
      return [{ group: [alone], rows: { first: alone.slot!, count: 1 }, length }];
    }
    this.#chunkNext = true;
    if (together.some(({ background }) => !background)) this.#togetherAt = performance.now();
    return this.#shareRuns(together);
  }

  /** The one with the least to run and the one that has waited longest take turns: few tokens pass by a long prompt. */
  #nextOf(apart: readonly Sequence[], pending: ReadonlyMap<Sequence, number>): Sequence {
    this.#shortestNext = !this.#shortestNext;
    if (!this.#shortestNext) return apart[0];
    return apart.reduce((least, one) => (pending.get(one)! < pending.get(least)! ? one : least));
  }

  #chunkLength(pending: number, chunk: number): number {
    const { recordedChunks = [], chunkLengths } = this.#options;
    if (chunkLengths) return chunkLengths.findLast((length) => length <= Math.min(pending, chunk)) ?? pending;
    const longest = recordedChunks.at(-1) ?? 0;
    // A few more than the longest go in two steps as well.
    if (pending > 2 * longest) return Math.min(pending, chunk);
    return recordedChunks.findLast((length) => length <= pending) ?? Math.min(pending, chunk);
  }

  #shareRuns(sequences: Sequence[]): Step[] {
    const slots = sequences.map((sequence) => sequence.slot!).sort((a, b) => a - b);
    return this.#options.rows
      .group(slots, (row) => this.#slots.heldAt(row))
      .map((rows) => {
        const isIn = ({ slot }: Sequence) => slot! >= rows.first && slot! < rows.first + rows.count;
        return { group: sequences.filter(isIn), rows, length: 1 };
      });
  }

  #vacate(sequence: Sequence): void {
    if (sequence.slot === null) return;
    this.#slots.vacate(sequence);
    const next = this.#waiting.values().next().value;
    if (next && this.#slots.seat(next)) {
      this.#waiting.delete(next);
      this.wake(next);
    }
  }
}

function gaveWay(): ClosedError {
  return new ClosedError("STREAM_CLOSED", "Its slot went to a stream.");
}
