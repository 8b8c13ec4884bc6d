import type { Verdict } from "./verdict.js";

/** Sorts out which verdicts of a text stream stand: those whose token no later text can change. */
export class SettledVerdicts {
  readonly #tail: Verdict[] = [];
  #count = 0;

  /** How many stand so far. */
  get count(): number {
    return this.#count;
  }

  /**
   * @param verdicts what a push or flush returned
   * @param settled the stream's `settled` after it
   * @returns the verdicts that stand now and did not before, in order
   */
  take(verdicts: readonly Verdict[], settled: number): Verdict[] {
    for (const verdict of verdicts) {
      this.#tail.length = verdict.index - this.#count;
      this.#tail.push(verdict);
    }
    const standing = this.#tail.splice(0, settled - this.#count);
    this.#count += standing.length;
    return standing;
  }
}
