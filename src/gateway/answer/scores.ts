import type { GuardError } from "../../errors.js";
import type { VerdictStream } from "../../gate/gate-options.js";
import type { GuardConfig } from "../../model/config.js";
import type { Decision } from "../../moderation/decision.js";
import { severityOf } from "../../moderation/labels.js";
import type { Policy } from "../../moderation/policy.js";
import { Reviewer } from "../../moderation/reviewer.js";
import { type Finding, rulePrompt, turnsInScope } from "../../moderation/ruling.js";
import type { TurnVerdict, Verdict } from "../../moderation/verdict.js";

/** What the guard says of one text. */
export interface Scores {
  /** Of each category, by its label: the highest probability of it and of not being safe, of all that was judged. 0 to 1. */
  scores: Readonly<Record<string, number>>;
  /** Categories that the policy's rules took note of. */
  flagged: ReadonlySet<string>;
  /** Whether the policy stopped it. */
  stopped: boolean;
}

type Labels = GuardConfig["labels"];

/** Keeps the scores of a prompt and of the answer to it while their verdicts go by. */
export class ScoreKeeper {
  readonly #labels: Labels;
  readonly #policy: Policy;
  readonly #reviewer: Reviewer;
  #prompt: Scores | null = null;
  #answer: number[];
  readonly #findings: Finding[] = [];
  #failed = false;
  /** UTF-16 units of the answer that went to the guard. */
  length = 0;

  constructor(labels: Labels, policy: Policy) {
    this.#labels = labels;
    this.#policy = policy;
    this.#reviewer = new Reviewer(policy.response);
    this.#answer = labels.responseCategory.map(() => 0);
  }

  /** Of the prompt; null where the guard gave no verdict. */
  get prompt(): Scores | null {
    return this.#prompt;
  }

  /** Of the answer as far as it was judged; null where the guard failed. */
  get answer(): Scores | null {
    if (this.#failed) return null;
    return {
      scores: named(this.#labels.responseCategory, this.#answer),
      flagged: new Set(this.#findings.map(({ category }) => category)),
      stopped: this.#reviewer.violation !== null,
    };
  }

  /** The stream, with its verdicts kept. */
  watch(stream: VerdictStream): VerdictStream {
    return new WatchedStream(stream, this);
  }

  takePrompt(turns: readonly TurnVerdict[]): void {
    const { violation, observed } = rulePrompt(turns, this.#policy);
    const { promptRisk, promptCategory } = this.#labels;
    const scores = promptCategory.map(() => 0);
    for (const turn of turnsInScope(turns, this.#policy.prompt.scope)) raise(scores, turn, promptRisk);
    const found = violation ? [...observed, violation] : observed;
    this.#prompt = {
      scores: named(promptCategory, scores),
      flagged: new Set(found.map(({ category }) => category)),
      stopped: violation !== null,
    };
  }

  takeAnswer(verdicts: readonly Verdict[], settled: number): void {
    if (this.#reviewer.violation) return;
    const { flag, observed } = this.#reviewer.review(verdicts, settled, (verdict) => {
      raise(this.#answer, verdict, this.#labels.responseRisk);
      return true;
    });
    this.#findings.push(...observed, ...(flag ? [flag] : []));
  }

  fail(): void {
    this.#failed = true;
  }
}

class WatchedStream implements VerdictStream {
  readonly turns: Promise<readonly TurnVerdict[]>;
  readonly closed: Promise<GuardError>;
  readonly #stream: VerdictStream;
  readonly #keeper: ScoreKeeper;

  constructor(stream: VerdictStream, keeper: ScoreKeeper) {
    this.#stream = stream;
    this.#keeper = keeper;
    this.closed = stream.closed;
    this.turns = stream.turns.then((turns) => {
      keeper.takePrompt(turns);
      return turns;
    });
    this.turns.catch(() => {});
  }

  get settled(): number {
    return this.#stream.settled;
  }

  get slides(): number {
    return this.#stream.slides;
  }

  get promptTokens(): number {
    return this.#stream.promptTokens;
  }

  get reusedTokens(): number {
    return this.#stream.reusedTokens;
  }

  push(ids: readonly number[]): Promise<Verdict[]> {
    return this.#keep(this.#stream.push(ids));
  }

  pushText(text: string): Promise<Verdict[]> {
    this.#keeper.length += text.length;
    return this.#keep(this.#stream.pushText(text));
  }

  async stage(text: string): Promise<number> {
    this.#keeper.length += text.length;
    try {
      return await this.#stream.stage(text);
    } catch (error) {
      this.#keeper.fail();
      throw error;
    }
  }

  flush(): Promise<Verdict[]> {
    return this.#keep(this.#stream.flush());
  }

  end(): Promise<Decision> {
    return this.#stream.end();
  }

  close(): void {
    this.#stream.close();
  }

  async #keep(judged: Promise<Verdict[]>): Promise<Verdict[]> {
    try {
      const verdicts = await judged;
      this.#keeper.takeAnswer(verdicts, this.#stream.settled);
      return verdicts;
    } catch (error) {
      this.#keeper.fail();
      throw error;
    }
  }
}

/** The probabilities of each category and of not being safe. */
export function scoresOf({ risk, category }: Verdict["probabilities"], risks: readonly string[]): number[] {
  const safe = risks.findIndex((label) => severityOf(label) === "safe");
  return category.map((probability) => (1 - risk[safe]) * probability);
}

function raise(scores: number[], { probabilities }: Verdict, risks: readonly string[]): void {
  for (const [i, score] of scoresOf(probabilities, risks).entries()) scores[i] = Math.max(scores[i], score);
}

function named(labels: readonly string[], scores: readonly number[]): Record<string, number> {
  return Object.fromEntries(labels.map((label, i) => [label, scores[i]]));
}
