import type { Rules } from "./policy.js";
import { assess, type Finding, RuleTracker } from "./ruling.js";
import { SettledVerdicts } from "./settled-verdicts.js";
import type { Verdict } from "./verdict.js";

/** What a policy makes of the tokens that have just settled. */
export interface Review {
  /** What blocks: it ends with the last of these tokens. Null: they pass. */
  flag: Finding | null;
  /** What is to be noted, in order. */
  observed: Finding[];
}

/**
 * A policy's rules over a response as its verdicts come: which have settled, what of it is flagged, and how much of it no
 * flag can reach any more. Counts tokens, and knows nothing of where their text comes from or goes to.
 */
export class Reviewer {
  readonly #rules: Rules;
  readonly #tracker: RuleTracker;
  readonly #verdicts = new SettledVerdicts();
  #clear = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
    this.#tracker = new RuleTracker(rules);
  }

  get violation(): Finding | null {
    return this.#tracker.violation;
  }

  /** Tokens, from the first, that no flag can reach any more. */
  get clear(): number {
    return this.#clear;
  }

  /** Tokens behind the settled ones that would pass if nothing came that changes them: none while a row is open. */
  get likelyClear(): readonly Verdict[] {
    if (this.#tracker.pending > 0) return [];
    const { unsettled } = this.#verdicts;
    const first = unsettled.findIndex((verdict) => assess(verdict, this.#rules)?.action === "block");
    return first < 0 ? unsettled : unsettled.slice(0, first);
  }

  /** Whether all that was judged would pass if nothing came that changes it. */
  get isLikelyClear(): boolean {
    return this.#tracker.pending === 0 && this.likelyClear.length === this.#verdicts.unsettled.length;
  }

  /**
   * @param verdicts what a push or flush returned
   * @param settled the stream's `settled` after it
   * @param isRead told of each token that has settled, in order, up to a flag: whether a reader gets any of it. A row of
   *   tokens goes on across those that nobody gets
   */
  review(
    verdicts: readonly Verdict[],
    settled: number,
    isRead: (verdict: Verdict) => boolean = () => true,
  ): Review {
    const observed: Finding[] = [];
    for (const verdict of this.#verdicts.take(verdicts, settled)) {
      if (this.violation) break;
      const finding = isRead(verdict) ? this.#tracker.take(verdict) : null;
      if (this.#tracker.pending === 0) this.#clear = verdict.index + 1;
      if (finding?.action === "block") return { flag: finding, observed };
      if (finding) observed.push(finding);
    }
    return { flag: null, observed };
  }
}
