import { ClosedError, DeviceError, type GuardError, NumericError } from "../errors.js";
import { Beginnings, beginning, type Held, isReading, type Leader } from "./beginnings.js";
import type { KvCache } from "./cache.js";
import { FEWEST_SHARED, PrefixCache, sharedLength } from "./prefix-cache.js";
import type { Sequence } from "./sequence.js";
import { SharedRows } from "./shared-rows.js";

/** Prefix tokens of all sequences so far: those that were in the cache already, and those that ran. */
export interface PrefixTotals {
  reused: number;
  prefilled: number;
}

/** Which of several sequences that share `length` tokens had better run so many more each in the row of one of them. */
export type FitInRow = (counts: readonly number[], length: number) => boolean[];

/** Milliseconds of searching after which the event loop gets a turn. */
const SEARCH_MS = 4;

/**
 * Who has which slot of the cache, and what free slots still hold. A sequence that has a slot and is about to run for the
 * first time begins: what it has in common with others is looked for, and it may move to the slot where that lies. Until
 * then nothing of it has run and its slot keeps what it holds.
 */
export class Slots {
  readonly #cache: KvCache;
  readonly #rows: (Sequence | null)[];
  readonly #warm: PrefixCache;
  readonly #beginnings: Beginnings;
  /** Sequences that have not begun. */
  readonly #fresh = new Set<Sequence>();
  /** Of these, those that wait as another is reading what they begin with. */
  readonly #following = new Map<Sequence, Leader>();
  readonly #shared = new SharedRows();
  /** Of those that have not begun, those that take copies: what was found for many is not asked again for fewer of them. */
  readonly #apart = new Set<Sequence>();
  readonly #fitInRow: FitInRow;
  readonly #past: PrefixTotals = { reused: 0, prefilled: 0 };

  /** @param keptTokens what free slots keep for sequences that begin alike; 0 keeps nothing */
  constructor(cache: KvCache, keptTokens: number, fitInRow: FitInRow) {
    this.#cache = cache;
    this.#fitInRow = fitInRow;
    this.#rows = new Array(cache.shape.slots).fill(null);
    this.#warm = new PrefixCache(keptTokens);
    this.#beginnings = new Beginnings(this.#rows, this.#warm, (sequence) => this.hasBegun(sequence));
  }

  /** As `PrefixCache.publish`. */
  publish(ids: readonly number[]): void {
    this.#warm.publish(ids);
  }

  /** The sequence in each slot. */
  get rows(): readonly (Sequence | null)[] {
    return this.#rows;
  }

  get totals(): PrefixTotals {
    const totals = { ...this.#past };
    for (const sequence of this.#rows) {
      totals.reused += sequence?.reused ?? 0;
      totals.prefilled += sequence?.prefilled ?? 0;
    }
    return totals;
  }

  /** Whether a sequence has begun: others must not run yet. */
  hasBegun(sequence: Sequence): boolean {
    return !this.#fresh.has(sequence);
  }

  /** Positions of a row that hold something of use: of its sequence, or of one that left it warm. */
  heldAt(row: number): number {
    return Math.max(this.#rows[row]?.length ?? 0, this.#warm.lengthAt(row));
  }

  /** Gives a sequence a slot, if one is free. */
  seat(sequence: Sequence): boolean {
    const free = this.#rows.flatMap((row, slot) => (row === null ? [slot] : []));
    if (free.length === 0) return false;
    sequence.slot = this.#warm.spare(free);
    this.#rows[sequence.slot] = sequence;
    this.#fresh.add(sequence);
    return true;
  }

  /** Frees the slot of a sequence that is closed. What it leaves is kept, unless it failed. */
  vacate(sequence: Sequence): void {
    const { slot, failure, prefix } = sequence;
    this.#following.delete(sequence);
    this.#shared.leave(sequence);
    if (slot === null) return;
    this.#past.reused += sequence.reused;
    this.#past.prefilled += sequence.prefilled;
    this.#rows[slot] = null;
    sequence.slot = null;
    const begun = !this.#fresh.delete(sequence);
    this.#apart.delete(sequence);
    if (!prefix) return;
    // What it shares with others may be what it failed of.
    if (failure instanceof NumericError || failure instanceof DeviceError) this.#warm.forget(prefix);
    else if (begun && failure instanceof ClosedError) this.#warm.put(slot, sequence.content);
  }

  /**
   * Lets sequences begin that have something to run. Gives way to steps after each copy that others' tokens had to wait
   * for: those that have not begun then do so next time.
   *
   * @param ready sequences that have something to run
   */
  async begin(ready: ReadonlySet<Sequence>): Promise<void> {
    const begun = new Set<Sequence>();
    let since = performance.now();
    for (const sequence of this.#inOrder(ready)) {
      if (!this.#fresh.has(sequence) || this.#shared.hostOf(sequence)) continue;
      begun.add(sequence);
      const copied = await this.#begin(sequence, ready);
      if (copied && isAwaited(ready, (other) => this.hasBegun(other) && !begun.has(other))) return;
      if (performance.now() - since < SEARCH_MS) continue;
      await new Promise(setImmediate);
      since = performance.now();
    }
  }

  /** Sequences that have something to run and may begin: those that nobody waits for behind the others, one of them. */
  *#inOrder(ready: ReadonlySet<Sequence>): Generator<Sequence> {
    const later: Sequence[] = [];
    for (const sequence of this.#fresh) {
      if (!ready.has(sequence) || this.#isFollowing(sequence)) continue;
      if (sequence.isAwaited) yield sequence;
      else later.push(sequence);
    }
    if (!this.#shared.areInUse) yield* later.slice(0, 1);
  }

  /** Those that have something to run in the row of another, as `#gather` has it, and that other. */
  get guests(): Iterable<[guest: Sequence, host: Sequence]> {
    return this.#shared.guests();
  }

  /** Whether others run in a sequence's row first. */
  isHost(sequence: Sequence): boolean {
    return this.#shared.isHost(sequence);
  }

  /** A guest has run. */
  leave(guest: Sequence): void {
    this.#shared.leave(guest);
  }

  #isFollowing(sequence: Sequence): boolean {
    const following = this.#following.get(sequence);
    if (following && isReading(following.leader, following.length)) return true;
    this.#following.delete(sequence);
    return false;
  }

  /**
   * Looks for what a sequence has in common with others: a slot that was left warm is taken over, what another slot or
   * sequence holds is copied, what another is reading at the moment is waited for. So many that begin alike read it once.
   *
   * @returns whether something was copied
   */
  async #begin(sequence: Sequence, ready: ReadonlySet<Sequence>): Promise<boolean> {
    const { prefix, isAwaited } = sequence;
    const found = prefix && this.#beginnings.longestHeld(prefix, sequence);
    const leader = prefix && this.#beginnings.leaderOf(prefix, sequence);
    if (leader && leader.length >= (found?.length ?? 0) + FEWEST_SHARED) {
      this.#following.set(sequence, leader);
      return false;
    }
    if (sequence.background && found && found.length > prefix.ids.length - FEWEST_SHARED) {
      sequence.close(new ClosedError("STREAM_ENDED", "Others have read it."));
      return false;
    }
    if (found && isAwaited) {
      sequence.foretell(found.content);
      // What it still has to run comes behind what others wait for.
      if (!sequence.isAwaited) return false;
    }
    const alike = found ? this.#gather(sequence, found, ready) : [];
    // The last one: the others are judged in the order in which they came.
    const host = alike.pop();
    if (!found || !host) return this.#takeSlot(sequence, found);
    const copied = await this.#takeSlot(host, found);
    // Goes back to what it holds of its own beginning.
    host.pending();
    const guests = alike.filter((guest) => this.#fresh.has(guest));
    if (host.failure === null && host.length === found.length) this.#shared.open(host, guests);
    return copied;
  }

  /** @returns whether something was copied */
  async #takeSlot(sequence: Sequence, found: Held | null): Promise<boolean> {
    this.#fresh.delete(sequence);
    this.#apart.delete(sequence);
    const slot = this.#claim(sequence);
    if (!found || found.length < sequence.heldOfPrefix + FEWEST_SHARED) return false;
    this.#warm.touch(found.slot);
    try {
      await this.#cache.copy(found.slot, slot, found.length, () => sequence.failure === null);
      if (!sequence.failure) sequence.adopt(found.content);
    } catch (error) {
      sequence.close(error as GuardError);
    }
    return true;
  }

  /**
   * Sequences that begin with what was found for one of them, that one among them, and that can be judged in the row of the
   * last; none where that does not pay.
   */
  #gather(sequence: Sequence, { content, length }: Held, ready: ReadonlySet<Sequence>): Sequence[] {
    const isAlike = (other: Sequence) =>
      other === sequence ||
      (ready.has(other) &&
        other.isAwaited &&
        other.prefix?.key === content.key &&
        sharedLength(other.prefix.ids, content.ids, length) === length &&
        !this.#apart.has(other) &&
        !this.#isFollowing(other) &&
        !this.#shared.hostOf(other) &&
        !this.#beginnings.finds(other, other.prefix, length + FEWEST_SHARED));
    if (sequence.background || !sequence.isAwaited || this.#apart.has(sequence)) return [];
    const alike = [...this.#fresh].filter(isAlike);
    for (const one of alike) one.foretell(content);
    const fits = this.#fitInRow(
      alike.map((one) => one.wantedBehind(length)),
      length,
    );
    const fitting = alike.filter((_, i) => fits[i]);
    for (const one of alike) if (fitting.length < 2 || !fitting.includes(one)) this.#apart.add(one);
    return fitting.length > 1 && fitting.includes(sequence) ? fitting : [];
  }

  /** Takes the slot where a sequence is to run, of all that are free the one that holds its beginning. */
  #claim(sequence: Sequence): number {
    const { prefix } = sequence;
    const from = sequence.slot as number;
    const isFree = (slot: number) => {
      const owner = this.#rows[slot];
      // One that has not begun has no need of this slot more than of another.
      return owner === null || owner === sequence || this.#fresh.has(owner);
    };
    const slot = (prefix && this.#warm.own(prefix, isFree)) ?? from;
    if (slot !== from) {
      const other = this.#rows[slot];
      if (other) other.slot = from;
      this.#rows[from] = other;
      this.#rows[slot] = sequence;
      sequence.slot = slot;
    }
    const content = this.#warm.take(slot);
    if (!content || !prefix) return slot;
    const length = this.#warm.usable(prefix, content);
    if (content.key === prefix.key) sequence.adopt(content);
    else if (length > 0) sequence.adopt(beginning(content, length, prefix.key));
    return slot;
  }
}

/** Whether one of some sequences has tokens to run. */
function isAwaited(ready: ReadonlySet<Sequence>, which: (sequence: Sequence) => boolean): boolean {
  for (const sequence of ready) {
    if (sequence.slot !== null && which(sequence) && sequence.pending() > 0) return true;
  }
  return false;
}
