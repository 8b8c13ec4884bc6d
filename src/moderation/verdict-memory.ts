import type { Verdict } from "./verdict.js";

/**
 * The verdicts of a response that may begin again. What comes again as it was need not be judged again: a verdict depends
 * on nothing but its token and those before.
 */
export class VerdictMemory {
  readonly #verdicts: Verdict[] = [];
  /** Of a response that has begun again: how many tokens are those that were there. Null: it has gone its own way. */
  #followed: number | null = null;
  #recalled = 0;

  /** Whether all that came since the response began again was there before. */
  get follows(): boolean {
    return this.#followed !== null;
  }

  /** Tokens since the response began again, from the first, whose verdicts were there. */
  get recalled(): number {
    return this.#followed ?? this.#recalled;
  }

  /** The response begins again. */
  restart(): void {
    this.#followed = 0;
  }

  /** Takes a verdict, in place of all from its index on. */
  keep(verdict: Verdict): void {
    this.#verdicts.length = verdict.index;
    this.#verdicts.push(verdict);
  }

  /** The verdicts of the first of these tokens, as far as the response follows the one before. */
  recall(from: number, ids: readonly number[]): readonly Verdict[] {
    if (this.#followed === null) return [];
    let to = from;
    while (to - from < ids.length && this.#verdicts[to]?.tokenId === ids[to - from]) to++;
    this.#followed = to;
    return this.#verdicts.slice(from, to);
  }

  /** From this index on other tokens come, or none. */
  leave(index: number): void {
    if (this.#followed !== null) this.#recalled = index;
    this.#followed = null;
    this.#verdicts.length = Math.min(this.#verdicts.length, index);
  }
}
