import type { Sequence } from "./sequence.js";

/** A sequence that holds what others begin with and nothing behind it, and those of them that are judged in its row. */
interface SharedRow {
  host: Sequence;
  length: number;
  guests: Set<Sequence>;
}

/**
 * Where many begin alike, the first few tokens of their own that somebody waits for run in the row of one of them, the host,
 * over what others have left there: what lies behind a row's length is nobody's. So their verdicts are there before what they
 * have in common was copied for each. Of its own the host runs nothing ahead of them; it may run along with the last.
 */
export class SharedRows {
  readonly #rows = new Map<Sequence, SharedRow>();

  open(host: Sequence, guests: readonly Sequence[]): void {
    this.#rows.set(host, { host, length: host.length, guests: new Set(guests) });
  }

  /** Those that have something to run in the row of another, and that other. */
  *guests(): Iterable<[guest: Sequence, host: Sequence]> {
    for (const row of this.#standing()) for (const guest of row.guests) yield [guest, row.host];
  }

  hostOf(sequence: Sequence): Sequence | null {
    for (const [guest, host] of this.guests()) if (guest === sequence) return host;
    return null;
  }

  /** Whether others run in a sequence's row first. */
  isHost(sequence: Sequence): boolean {
    return (this.#rows.get(sequence)?.guests.size ?? 0) > 0 && this.#isStanding(sequence);
  }

  /** Whether a host, or one of its guests, has yet to run. */
  get areInUse(): boolean {
    return !this.#standing().next().done;
  }

  leave(guest: Sequence): void {
    for (const { guests } of this.#rows.values()) guests.delete(guest);
  }

  *#standing(): Generator<SharedRow> {
    for (const row of this.#rows.values()) if (this.#isStanding(row.host)) yield row;
  }

  /** Whether a host still holds just what it held; else it is none any more. */
  #isStanding(host: Sequence): boolean {
    const row = this.#rows.get(host);
    if (row && host.failure === null && host.length === row.length) return true;
    this.#rows.delete(host);
    return false;
  }
}
