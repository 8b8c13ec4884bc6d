import { deferred } from "../moderation/deferred.js";
import type { Finding, Ruling } from "../moderation/ruling.js";
import type { Outcome } from "./gate-options.js";

/** What is told of a gate: when it began, what its prompt was ruled, what the policy observed, how it ended. */
export class GateRecord {
  readonly #ruling = deferred<Ruling | null>();
  readonly #outcome = deferred<Outcome>();
  readonly #observed: Finding[] = [];
  #startedAt: number | null = null;
  #promptMs: number | null = null;

  readonly prompt = this.#ruling.promise;
  readonly done = this.#outcome.promise;

  get hasBegun(): boolean {
    return this.#startedAt !== null;
  }

  /** Milliseconds until the prompt passed, or was flagged. */
  get promptMs(): number | null {
    return this.#promptMs;
  }

  begin(): void {
    this.#startedAt = performance.now();
  }

  judgedPrompt(): void {
    this.#promptMs = performance.now() - (this.#startedAt as number);
  }

  /** The first time counts. */
  rule(ruling: Ruling | null): void {
    this.#ruling.resolve(ruling);
  }

  observe(finding: Finding): void {
    this.#observed.push(finding);
  }

  end(outcome: Omit<Outcome, "observed" | "dropped">): void {
    this.rule(null);
    this.#outcome.resolve({ ...outcome, observed: this.#observed, dropped: [] });
  }
}
