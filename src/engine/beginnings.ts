import {
  FEWEST_SHARED,
  type Prefix,
  type PrefixCache,
  type SlotContent,
  sharedLength,
} from "./prefix-cache.js";
import type { Sequence } from "./sequence.js";

/** Tokens in a slot that a sequence begins with. */
export interface Held {
  slot: number;
  length: number;
  content: SlotContent;
}

/** A sequence that is reading what another begins with, and how much of it. */
export interface Leader {
  leader: Sequence;
  length: number;
}

/** Where what a sequence begins with is to be found: in the cache, or with one that is reading it. */
export class Beginnings {
  readonly #rows: readonly (Sequence | null)[];
  readonly #warm: PrefixCache;
  readonly #hasBegun: (sequence: Sequence) => boolean;

  constructor(
    rows: readonly (Sequence | null)[],
    warm: PrefixCache,
    hasBegun: (sequence: Sequence) => boolean,
  ) {
    this.#rows = rows;
    this.#warm = warm;
    this.#hasBegun = hasBegun;
  }

  /** A sequence under way that will hold more of a prefix than any does now. */
  leaderOf({ ids, key }: Prefix, follower: Sequence, least = FEWEST_SHARED + 1): Leader | null {
    let best: Leader | null = null;
    for (const leader of this.#rows) {
      if (!leader?.prefix || leader === follower || leader.prefix.key !== key || !this.#hasBegun(leader))
        continue;
      const length = sharedLength(ids, leader.prefix.ids, best ? best.length + 1 : least);
      if (length > 0 && isReading(leader, length)) best = { leader, length };
    }
    return best;
  }

  /** Where most of a prefix lies in the cache, and what of it. */
  longestHeld(prefix: Prefix, sequence: Sequence, least = FEWEST_SHARED): Held | null {
    const warm = this.#warm.match(prefix, least);
    let best = warm && { ...warm, of: this.#warm.contentAt(warm.slot) as SlotContent };
    for (const other of this.#rows) {
      if (!other || other === sequence || other.slot === null || other.key === null) continue;
      const of = other.content;
      const length = this.#warm.usable(prefix, of, best ? best.length + 1 : least);
      if (length > 0) best = { slot: other.slot, length, of };
    }
    return (
      best && { slot: best.slot, length: best.length, content: beginning(best.of, best.length, prefix.key) }
    );
  }

  /** Whether so much of a sequence's beginning lies elsewhere, or is being read. */
  finds(sequence: Sequence, prefix: Prefix, least: number): boolean {
    return (
      this.longestHeld(prefix, sequence, least) !== null || this.leaderOf(prefix, sequence, least) !== null
    );
  }
}

/** Whether a sequence is on its way to hold so many tokens. */
export function isReading(sequence: Sequence, length: number): boolean {
  if (sequence.failure !== null) return false;
  // Settles where it goes on from.
  const coming = sequence.pending();
  return sequence.length < length && sequence.length + coming >= length;
}

/** @param key whose it is now */
export function beginning({ ids, logits, prompt }: SlotContent, length: number, key: string): SlotContent {
  const kept = new Map([...logits].filter(([position]) => position < length));
  return { ids: ids.slice(0, length), prompt: Math.min(prompt, length), logits: kept, key };
}
