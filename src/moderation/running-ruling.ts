import type { Policy } from "./policy.js";
import { Reviewer } from "./reviewer.js";
import { actionOf, type Finding, type Ruling, rulePrompt } from "./ruling.js";
import type { TurnVerdict, Verdict } from "./verdict.js";

/** What a policy makes of a conversation as its verdicts come. It stops nothing. */
export class RunningRuling {
  readonly #policy: Policy;
  #prompt: Ruling | null = null;
  #response: Reviewer;
  readonly #observed: Finding[] = [];

  constructor(policy: Policy) {
    this.#policy = policy;
    this.#response = new Reviewer(policy.response);
  }

  /** The prompt's verdicts stand first. */
  get current(): Ruling {
    const violation = this.#prompt?.violation ?? this.#response.violation;
    const observed = [...(this.#prompt?.observed ?? []), ...this.#observed];
    return { action: actionOf(violation, observed), violation, observed };
  }

  /** @throws {InputError} PROMPT_UNJUDGED */
  prompt(turns: readonly TurnVerdict[]): void {
    this.#prompt = rulePrompt(turns, this.#policy);
  }

  /** As `Reviewer.review`. */
  response(verdicts: readonly Verdict[], settled: number): void {
    this.#observed.push(...this.#response.review(verdicts, settled).observed);
  }

  /** The response begins again. */
  restart(): void {
    this.#response = new Reviewer(this.#policy.response);
    this.#observed.length = 0;
  }
}
