import type { Verdict } from "./verdict.js";

/** Sorts out which verdicts of a text stream have settled: those whose token no later text can change. */
export class SettledVerdicts {
  readonly #unsettled: Verdict[] = [];
  #count = 0;

  /** The newest verdicts of the tokens that later text could still change. */
  get unsettled(): readonly Verdict[] {
    return this.#unsettled;
  }

  /**
   * @param verdicts what a push or flush returned
   * @param settled the stream's `settled` after it
   * @returns the verdicts that have settled now, in order
   */
  take(verdicts: readonly Verdict[], settled: number): Verdict[] {
    for (const verdict of verdicts) {
      this.#unsettled.length = verdict.index - this.#count;
      this.#unsettled.push(verdict);
    }
    const now = this.#unsettled.splice(0, settled - this.#count);
    this.#count += now.length;
    return now;
  }
}
