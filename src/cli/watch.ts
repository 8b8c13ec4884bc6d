import { GuardError } from "../errors.js";
import type { Policy } from "../moderation/policy.js";
import { type Finding, RuleTracker } from "../moderation/ruling.js";
import { SettledVerdicts } from "../moderation/settled-verdicts.js";
import type { Verdict } from "../moderation/verdict.js";
import { type Part, TextHoldBuffer } from "../streaming/hold-buffer.js";
import type { Report } from "./report.js";

/** A policy over a scan: finds where it blocks, and shows only what it lets pass where that is asked for. */
export class Watch {
  readonly #verdicts = new SettledVerdicts();
  readonly #tracker: RuleTracker;
  readonly #report: Report;
  readonly #shows: boolean;
  #held: Verdict[] = [];
  /** The source of what is held; null for ids, which have none but their tokens. */
  #source: TextHoldBuffer<never> | null = null;
  /** Offset in it up to which no flag can reach. */
  #clear = 0;

  constructor(policy: Policy, report: Report, shows: boolean) {
    this.#tracker = new RuleTracker(policy.response);
    this.#report = report;
    this.#shows = shows;
  }

  get violation(): Finding | null {
    return this.#tracker.violation;
  }

  /** Takes what is about to be judged. */
  push(chunk: string | number[]): void {
    if (!this.#shows || typeof chunk !== "string") return;
    this.#source ??= new TextHoldBuffer<never>();
    this.#source.append({ kind: "text", text: chunk });
  }

  /** Returns the violation when these verdicts complete it. */
  take(verdicts: Verdict[], settled: number): Finding | null {
    for (const verdict of this.#verdicts.take(verdicts, settled)) {
      if (this.#tracker.violation) return null;
      this.#held.push(verdict);
      const judged = this.#source?.judge(verdict) ?? 0;
      const finding = this.#tracker.take(verdict);
      if (this.#tracker.pending === 0) this.#clear = judged;
      this.#show(this.#held.length - this.#tracker.pending, this.#source?.release(this.#clear));
      if (finding?.action !== "block") continue;
      this.#report.violation(finding);
      return finding;
    }
    return null;
  }

  /** @throws {GuardError} INTERNAL */
  end(): void {
    if (this.#source && !this.#source.complete) {
      throw new GuardError(
        "INTERNAL",
        "Text is left that no token stands for. Please report the text as a bug.",
      );
    }
    this.#show(this.#held.length, this.#source?.releaseAll());
  }

  #show(count: number, parts: Part<never>[] | undefined): void {
    const clear = this.#held.splice(0, count);
    if (!this.#shows) return;
    const text = parts
      ? parts.map((part) => (part.kind === "text" ? part.text : "")).join("")
      : clear.map((verdict) => verdict.text).join("");
    if (clear.length > 0 || text !== "") this.#report.clear(clear, text);
  }
}
