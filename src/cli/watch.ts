import type { Policy } from "../moderation/policy.js";
import { type Finding, Rulebook } from "../moderation/ruling.js";
import { StandingVerdicts } from "../moderation/standing.js";
import type { Verdict } from "../moderation/verdict.js";
import type { Report } from "./report.js";

/** A policy over a scan: finds where it blocks, and shows only what it lets pass where that is asked for. */
export class Watch {
  readonly #standing = new StandingVerdicts();
  readonly #book: Rulebook;
  readonly #report: Report;
  readonly #shows: boolean;
  #held: Verdict[] = [];

  constructor(policy: Policy, report: Report, shows: boolean) {
    this.#book = new Rulebook(policy.response);
    this.#report = report;
    this.#shows = shows;
  }

  get violation(): Finding | null {
    return this.#book.violation;
  }

  /** Returns the violation when these verdicts complete it. */
  take(verdicts: Verdict[], settled: number): Finding | null {
    for (const verdict of this.#standing.take(verdicts, settled)) {
      if (this.#book.violation) return null;
      this.#held.push(verdict);
      const finding = this.#book.take(verdict);
      this.#show(this.#held.length - this.#book.pending);
      if (finding?.action !== "block") continue;
      this.#report.violation(finding);
      return finding;
    }
    return null;
  }

  end(): void {
    this.#show(this.#held.length);
  }

  #show(count: number): void {
    const clear = this.#held.splice(0, count);
    if (this.#shows && clear.length > 0) this.#report.clear(clear);
  }
}
