import type { Logits } from "./logits.js";

/** What a sequence begins with, and whose it is. */
export interface Prefix {
  ids: readonly number[];
  /** Only what was read under the same key is used again, or is public: one for each tenant. */
  key: string;
}

/** What a slot's rows of the KV cache hold, from position 0. */
export interface SlotContent {
  ids: number[];
  /** How many of them the sequence began with: what came after is a response, which seldom comes again. */
  prompt: number;
  /** What the model gave at positions that were read, a row of each output. */
  logits: Map<number, Logits>;
  key: string;
}

/**
 * Fewer tokens in common are not worth a search: every conversation begins with the template's own few tokens. Running
 * them costs about what a copy does.
 */
export const FEWEST_SHARED = 16;

/** Copying so many tokens costs what reading one does, and less: at the 0.6B shape 0.1 ms a token against 5 and more. */
export const COPIES_A_TOKEN = 64;

/**
 * How many ids two lists begin with in common.
 *
 * @param least fewer are of no use, and need not be counted: the answer is 0 then
 */
export function sharedLength(a: readonly number[], b: readonly number[], least = 1): number {
  const most = Math.min(a.length, b.length);
  if (most < least || a[least - 1] !== b[least - 1]) return 0;
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length < least ? 0 : length;
}

/**
 * Free slots that are still warm: what their last sequences left in the KV cache. Up to `maxTokens` are kept; beyond
 * that, what was used least recently is forgotten. Knows slots and ids; the keys and values stay where they are.
 */
export class PrefixCache {
  readonly #maxTokens: number;
  /** By slot, the least recently used first. */
  readonly #warm = new Map<number, SlotContent>();
  readonly #public: (readonly number[])[] = [];
  #tokens = 0;

  constructor(maxTokens: number) {
    this.#maxTokens = maxTokens;
  }

  /** Makes a beginning one that tells nothing of anybody, such as a template's instructions: it is used under all keys. */
  publish(ids: readonly number[]): void {
    this.#public.push(ids);
  }

  /** How much of a prefix may be used of what others hold; 0 where that is less than `least`. */
  usable({ ids, key }: Prefix, other: Prefix, least = FEWEST_SHARED): number {
    let most = other.key === key ? ids.length : 0;
    if (most === 0) for (const own of this.#public) most = Math.max(most, sharedLength(own, ids, least));
    return most === 0 ? 0 : Math.min(most, sharedLength(ids, other.ids, least));
  }

  /** Tokens that warm slots hold. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Tokens that a free slot holds; 0 where it is cold. */
  lengthAt(slot: number): number {
    return this.#warm.get(slot)?.ids.length ?? 0;
  }

  contentAt(slot: number): SlotContent | undefined {
    return this.#warm.get(slot);
  }

  /** Keeps what a sequence leaves behind. */
  put(slot: number, content: SlotContent): void {
    if (content.ids.length < FEWEST_SHARED || content.ids.length > this.#maxTokens) return;
    this.#warm.set(slot, content);
    this.#tokens += content.ids.length;
    while (this.#tokens > this.#maxTokens) this.take(this.oldest as number);
  }

  /** Gives a slot's content up, to be used in its place or written over. */
  take(slot: number): SlotContent | undefined {
    const content = this.#warm.get(slot);
    if (content && this.#warm.delete(slot)) this.#tokens -= content.ids.length;
    return content;
  }

  /** Gives up all that begins as a prefix does. */
  forget(prefix: Prefix): void {
    for (const [slot, content] of this.#warm) if (this.usable(prefix, content) > 0) this.take(slot);
  }

  /** The slot that holds most of a prefix, and how much of it; null where none holds enough. */
  match(prefix: Prefix, fewest = FEWEST_SHARED): { slot: number; length: number } | null {
    let best: { slot: number; length: number } | null = null;
    for (const [slot, content] of this.#warm) {
      const length = this.usable(prefix, content, best ? best.length + 1 : fewest);
      if (length > 0) best = { slot, length };
    }
    return best;
  }

  /** Makes a slot the most recently used one. */
  touch(slot: number): void {
    const content = this.#warm.get(slot);
    if (content && this.#warm.delete(slot)) this.#warm.set(slot, content);
  }

  /** The slot that was used least recently; undefined where none is warm. */
  get oldest(): number | undefined {
    return this.#warm.keys().next().value;
  }

  /**
   * The slot for a sequence of which no more is known: a cold one, the lowest, which keeps batches dense; where there is
   * none, or memory is full, the one used least recently.
   *
   * @param free ascending, at least one
   */
  spare(free: readonly number[]): number {
    const cold = free.find((slot) => !this.#warm.has(slot));
    if (cold !== undefined && this.#tokens < this.#maxTokens) return cold;
    for (const slot of this.#warm.keys()) if (free.includes(slot)) return slot;
    return cold ?? free[0];
  }

  /**
   * A slot that holds a prefix and of another conversation so little that a copy, which would leave it to that, costs
   * more. The response that follows there counts for nothing: templates show it otherwise in later turns.
   */
  own(prefix: Prefix, isFree: (slot: number) => boolean): number | null {
    const found = this.match(prefix);
    if (!found || !isFree(found.slot)) return null;
    const lost = (this.contentAt(found.slot) as SlotContent).prompt - found.length;
    return lost <= Math.max(FEWEST_SHARED, found.length / COPIES_A_TOKEN) ? found.slot : null;
  }
}
