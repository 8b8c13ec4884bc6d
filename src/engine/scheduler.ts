import { ClosedError, type GuardError, QueueFullError } from "../errors.js";
import type { BatchRunner } from "./batch.js";
import type { KvCache } from "./cache.js";
import { FEWEST_SHARED, type Prefix, PrefixCache, type SlotContent, sharedLength } from "./prefix-cache.js";
import type { RowPlan, RowRange } from "./rows.js";
import type { Sequence, SequenceOwner } from "./sequence.js";

/** Tokens keep coming while the last came less than this many milliseconds ago: a slow LLM's pace, and some. */
const RECENT_MS = 500;

export interface SchedulerOptions {
  /** Sequences that may wait for a slot. */
  maxWaiting: number;
  rows: RowPlan;
  /** Tokens of a prompt in one run while tokens of other sequences keep coming: they wait no longer than it takes. */
  sharedChunk: number;
  /** The same otherwise: enough for the kernels to be at their best. */
  loneChunk: number;
  /** This many tokens of a sequence cost less one by one than in a chunk of their own. */
  fewTokens: number;
  /** Tokens that free slots keep for sequences that begin alike; 0 keeps none. */
  keptTokens: number;
  /** Chunks of one sequence that are recorded, ascending: more tokens than `fewTokens` and not too many go in these. */
  recordedChunks?: readonly number[];
}

/** Prefix tokens of all sequences so far: those that were in the cache already, and those that ran. */
export interface PrefixTotals {
  reused: number;
  prefilled: number;
}

/** Sequences to step together, the rows of that run, and the number of tokens each sequence brings. */
interface Step {
  group: Sequence[];
  rows: RowRange;
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
  readonly #warm: PrefixCache;
  readonly #waiting = new Set<Sequence>();
  /** Sequences that have not begun, as another is reading what they begin with. */
  readonly #following = new Map<Sequence, { leader: Sequence; length: number }>();
  /** Sequences that wait for their first step. */
  readonly #fresh = new Set<Sequence>();
  readonly #past: PrefixTotals = { reused: 0, prefilled: 0 };
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
    this.#warm = new PrefixCache(options.keptTokens);
  }

  get active(): number {
    return this.#rows.filter((sequence) => sequence !== null).length;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get prefixTotals(): PrefixTotals {
    const totals = { ...this.#past };
    for (const sequence of this.#rows) {
      totals.reused += sequence?.reused ?? 0;
      totals.prefilled += sequence?.prefilled ?? 0;
    }
    return totals;
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
    this.#rows
      .find((row) => row?.yields && !row.failure)
      ?.close(new ClosedError("STREAM_CLOSED", "Its slot went to a stream."));
  }

  wake(sequence: Sequence): void {
    this.#ready.add(sequence);
    this.#loop ??= this.#run();
  }

  drop(sequence: Sequence): void {
    this.#ready.delete(sequence);
    this.#waiting.delete(sequence);
    this.#following.delete(sequence);
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
      await this.#findPrefixes();
      const steps = this.#plan();
      if (steps.length === 0) {
        this.#loop = null;
        return;
      }
      for (const step of steps) await this.#step(step);
    }
  }

  async #step({ group: planned, rows: { first: firstRow, count }, length }: Step): Promise<void> {
    // Some may have closed, and their rows found new owners, while an earlier group of the same plan ran.
    const group = planned.filter((sequence) => sequence.slot !== null);
    if (group.length === 0) return;
    const rows = this.#rows.slice(firstRow, firstRow + count);
    const active = rows.map((sequence) => sequence !== null && group.includes(sequence));
    this.#running = rows.filter((sequence) => sequence !== null);
    try {
      const held = rows.map((sequence, i) => this.#heldAt(firstRow + i, sequence));
      const logits = await this.#runner.run({ firstRow, rows, held, active, length });
      for (const sequence of group) sequence.advance(length, logits, sequence.slot! - firstRow);
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
   * sequences to share a step with is better off alone, unless so few that single steps cost less.
   */
  #plan(): Step[] {
    const pending = new Map<Sequence, number>();
    for (const sequence of this.#ready) {
      if (this.#following.has(sequence)) continue;
      const count = sequence.slot === null ? 0 : sequence.pending();
      if (count > 0) pending.set(sequence, count);
      else this.#ready.delete(sequence);
    }
    const together: Sequence[] = [];
    let alone: Sequence | undefined;
    const { sharedChunk, loneChunk, fewTokens } = this.#options;
    for (const [sequence, count] of pending) {
      if (count <= Math.max(pending.size, fewTokens)) together.push(sequence);
      else alone ??= sequence;
    }
    if (alone && (this.#chunkNext || together.length === 0)) {
      this.#chunkNext = false;
      const chunk = performance.now() - this.#togetherAt < RECENT_MS ? sharedChunk : loneChunk;
      const rows = { first: alone.slot!, count: 1 };
      return [{ group: [alone], rows, length: this.#chunkLength(pending.get(alone)!, chunk) }];
    }
    this.#chunkNext = true;
    if (together.length > 0) this.#togetherAt = performance.now();
    return this.#shareRuns(together);
  }

  #chunkLength(pending: number, chunk: number): number {
    const { recordedChunks = [] } = this.#options;
    const longest = recordedChunks.at(-1) ?? 0;
    // A few more than the longest go in two steps as well.
    if (pending > 2 * longest) return Math.min(pending, chunk);
    return recordedChunks.findLast((length) => length <= pending) ?? Math.min(pending, chunk);
  }

  #shareRuns(sequences: Sequence[]): Step[] {
    const slots = sequences.map((sequence) => sequence.slot!).sort((a, b) => a - b);
    const held = (row: number) => this.#heldAt(row, this.#rows[row]);
    return this.#options.rows.group(slots, held).map((rows) => {
      const isIn = ({ slot }: Sequence) => slot! >= rows.first && slot! < rows.first + rows.count;
      return { group: sequences.filter(isIn), rows, length: 1 };
    });
  }

  /** Positions of a row that hold something of use: of its sequence, or of one that left it warm. */
  #heldAt(row: number, sequence: Sequence | null): number {
    return Math.max(sequence?.held ?? 0, this.#warm.lengthAt(row));
  }

  /**
   * Looks for what sequences that are about to begin have in common with others: a slot that was left warm is taken over,
   * what another slot or sequence holds is copied, what another is reading at the moment is waited for. So many that begin
   * alike read it once.
   */
  async #findPrefixes(): Promise<void> {
    for (const sequence of this.#fresh) {
      if (sequence.slot === null || !this.#ready.has(sequence)) continue;
      const following = this.#following.get(sequence);
      if (following && isReading(following.leader, following.length)) continue;
      this.#following.delete(sequence);
      const { prefix } = sequence;
      const found = prefix && this.#longestHeld(prefix, sequence);
      const leader = prefix && this.#leaderOf(prefix, sequence);
      if (leader && leader.length >= (found?.length ?? 0) + FEWEST_SHARED) {
        this.#following.set(sequence, leader);
        continue;
      }
      this.#fresh.delete(sequence);
      const slot = this.#claim(sequence);
      if (!found || found.length < sequence.heldOfPrefix + FEWEST_SHARED) continue;
      this.#warm.touch(found.slot);
      await this.#cache.copy(found.slot, slot, found.length);
      sequence.adopt(found.content);
    }
  }

  /** Takes the slot where a sequence is to run, of all that are free the one that holds its beginning. */
  #claim(sequence: Sequence): number {
    const { prefix } = sequence;
    const isFree = (slot: number) => this.#rows[slot] === null || this.#rows[slot] === sequence;
    const slot = (prefix && this.#warm.own(prefix, isFree)) ?? (sequence.slot as number);
    this.#rows[sequence.slot as number] = null;
    this.#rows[slot] = sequence;
    sequence.slot = slot;
    const content = this.#warm.take(slot);
    if (content && content.key === prefix?.key) sequence.adopt(content);
    return slot;
  }

  /** A sequence under way that will hold more of a prefix than any does now. */
  #leaderOf({ ids, key }: Prefix, follower: Sequence): { leader: Sequence; length: number } | null {
    let best: { leader: Sequence; length: number } | null = null;
    for (const leader of this.#rows) {
      if (!leader?.prefix || leader === follower || this.#fresh.has(leader) || leader.prefix.key !== key)
        continue;
      const length = sharedLength(ids, leader.prefix.ids);
      if (length > (best?.length ?? FEWEST_SHARED) && isReading(leader, length)) best = { leader, length };
    }
    return best;
  }

  /** Where most of a prefix lies in the cache, and what of it. */
  #longestHeld(
    prefix: Prefix,
    sequence: Sequence,
  ): { slot: number; length: number; content: SlotContent } | null {
    const warm = this.#warm.match(prefix);
    let best = warm && { ...warm, of: this.#warm.contentAt(warm.slot) as SlotContent };
    for (const other of this.#rows) {
      if (!other || other === sequence || other.slot === null || other.key !== prefix.key) continue;
      const { content } = other;
      const length = sharedLength(prefix.ids, content.ids);
      if (length > (best?.length ?? 0)) best = { slot: other.slot, length, of: content };
    }
    return best && { slot: best.slot, length: best.length, content: beginning(best.of, best.length) };
  }

  #seat(sequence: Sequence): boolean {
    const free = this.#rows.flatMap((row, slot) => (row === null ? [slot] : []));
    if (free.length === 0) return false;
    sequence.slot = this.#warm.spare(free);
    this.#rows[sequence.slot] = sequence;
    // What it begins with is known when it is fed: until then the slot keeps what it holds.
    this.#fresh.add(sequence);
    return true;
  }

  #vacate(sequence: Sequence): void {
    const { slot, failure } = sequence;
    if (slot === null) return;
    this.#past.reused += sequence.reused;
    this.#past.prefilled += sequence.prefilled;
    this.#rows[slot] = null;
    sequence.slot = null;
    // What failed may have left anything behind.
    const begun = !this.#fresh.delete(sequence);
    if (begun && sequence.prefix && failure instanceof ClosedError) this.#warm.put(slot, sequence.content);
    const next = this.#waiting.values().next().value;
    if (next && this.#seat(next)) {
      this.#waiting.delete(next);
      this.wake(next);
    }
  }
}

/** Whether a sequence is on its way to hold so many tokens. */
function isReading(sequence: Sequence, length: number): boolean {
  return (
    sequence.failure === null && sequence.length < length && sequence.length + sequence.pending() >= length
  );
}

function beginning({ ids, logits, key }: SlotContent, length: number): SlotContent {
  const kept = new Map([...logits].filter(([position]) => position < length));
  return { ids: ids.slice(0, length), logits: kept, key };
}
