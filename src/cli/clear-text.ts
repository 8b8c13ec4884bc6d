import { GuardError } from "../errors.js";
import { TextHoldBuffer } from "../gate/hold-buffer.js";
import type { Verdict } from "../moderation/verdict.js";
import type { Report } from "./report.js";

/** A scan that shows only what the policy lets pass: what no flag can reach any more, as its source wrote it. */
export class ClearText {
  readonly #report: Report;
  readonly #held: Verdict[] = [];
  #shown = 0;
  /** Null for ids, which have no source but their tokens. */
  #source: TextHoldBuffer<never> | null = null;

  constructor(report: Report) {
    this.#report = report;
  }

  /** Takes what is about to be judged. */
  push(chunk: string | number[]): void {
    if (typeof chunk !== "string") return;
    this.#source ??= new TextHoldBuffer<never>();
    this.#source.append({ kind: "text", text: chunk });
  }

  /** Takes a token that has settled. */
  judge(verdict: Verdict): boolean {
    this.#held.push(verdict);
    return this.#source?.judge(verdict) ?? true;
  }

  /**
   * Shows so many tokens, from the first.
   *
   * @param ahead tokens behind all that have settled: shown as well, though they may still change
   */
  show(tokens: number, ahead: readonly Verdict[] = []): void {
    const verdicts = [...this.#held.splice(0, tokens - this.#shown), ...ahead];
    this.#shown = tokens;
    const text = this.#source
      ? this.#source.release(tokens, ahead).map((part) => (part.kind === "text" ? part.text : ""))
      : verdicts.map(({ text }) => text);
    if (verdicts.length > 0) this.#report.clear(verdicts, text.join(""));
  }

  /** Shows all that is left. @throws {GuardError} INTERNAL */
  end(): void {
    if (this.#source && !this.#source.complete) {
      throw new GuardError(
        "INTERNAL",
        "Text is left that no token stands for. Please report the text as a bug.",
      );
    }
    this.show(this.#shown + this.#held.length);
  }
}
