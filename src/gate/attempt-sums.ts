import type { GateStats } from "./gate-options.js";

/** What the attempts so far have cost the guard: UTF-16 units judged, and tokens. */
export type Spent = Pick<GateStats, "judged" | "tokens">;

/** Where the attempts of a gate stand, all together: each gate knows of itself alone. */
export class AttemptSums {
  #before = { received: 0, judged: 0, released: 0, peakLag: 0, tokens: 0, dropped: 0, waitedForGuardMs: 0 };
  /** Of the first attempt, which alone read the prompt. */
  #first: Pick<GateStats, "promptTokens" | "reusedTokens" | "promptMs"> | null = null;
  #given = 0;

  get before(): Spent {
    return this.#before;
  }

  /** @param given units that the attempt under way was given to begin with, which the reader has */
  begin(given: number): void {
    this.#given = given;
  }

  /** The attempt under way was dropped, and another comes. */
  drop(own: GateStats, recalled: number): void {
    const { received, judged, released, peakLag, tokens, waitedForGuardMs } = this.stats(own, recalled);
    this.#first ??= own;
    this.#before = {
      ...{ received, judged, released, peakLag, tokens, waitedForGuardMs },
      dropped: received - released,
    };
  }

  /**
   * @param own of the gate under way
   * @param recalled tokens of it that an attempt before had judged
   */
  stats(own: GateStats, recalled: number): GateStats {
    const before = this.#before;
    const { promptTokens, reusedTokens, promptMs } = this.#first ?? own;
    return {
      ...own,
      ...{ promptTokens, reusedTokens, promptMs, dropped: before.dropped },
      received: before.received + Math.max(0, own.received - this.#given),
      judged: before.judged + Math.max(0, own.judged - this.#given),
      released: before.released + own.released,
      peakLag: Math.max(before.peakLag, own.peakLag),
      tokens: before.tokens + Math.max(0, own.tokens - (this.#first ? recalled : 0)),
      waitedForGuardMs: before.waitedForGuardMs + own.waitedForGuardMs,
    };
  }
}
