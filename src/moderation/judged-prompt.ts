import type { GuardConfig } from "../model/config.js";
import type { Prefix } from "../tokenizer/chat-template/template.js";
import { TURN_END } from "../tokenizer/chat-template/turns.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { ContextWindow } from "./context-window.js";
import { type Deferred, deferred } from "./deferred.js";
import type { PromptReader } from "./earlier-windows.js";
import { intoWindows, type Reading, type WindowRead, type WindowSizes } from "./prompt-windows.js";
import { judgePrompt, type TurnVerdict, type Verdict, worstOf } from "./verdict.js";

/** The conversation before a response: read into the context, and judged where its turns end. */
export class JudgedPrompt {
  readonly #window: ContextWindow;
  readonly #tokenizer: Tokenizer;
  readonly #labels: GuardConfig["labels"];
  readonly #verdict = deferred<Verdict | null>();
  readonly #turns = deferred<readonly TurnVerdict[]>();
  #tokens: number | null = null;

  constructor(window: ContextWindow, tokenizer: Tokenizer, labels: GuardConfig["labels"]) {
    this.#window = window;
    this.#tokenizer = tokenizer;
    this.#labels = labels;
    // Who never asks for a verdict must not be killed by its rejection.
    for (const { promise } of [this.#verdict, this.#turns]) promise.catch(() => {});
  }

  /** Of the turn that `Prefix.promptIndex` names, as soon as it is judged: the worst where several windows held it. */
  get verdict(): Promise<Verdict | null> {
    return this.#verdict.promise;
  }

  /** Of all turns that were judged. */
  get turns(): Promise<readonly TurnVerdict[]> {
    return this.#turns.promise;
  }

  /** How many there are; 0 while they are not known. */
  get tokens(): number {
    return this.#tokens ?? 0;
  }

  /**
   * Gives it to the model; resolves with the last verdict.
   *
   * @param cuts how it is cut where it is longer than the context; null: it must not be
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   * @throws as `Sequence.feed`
   */
  async read(prefix: Prefix, cuts: WindowSizes | null, reading: Omit<Reading, "close">): Promise<void> {
    this.#tokens = prefix.ids.length;
    try {
      const close = this.#tokenizer.tokenId(TURN_END) as number;
      const prompt = intoWindows(prefix, this.#window.maxTokens, cuts, { ...reading, close });
      const reads = prompt.windows.flatMap((window) => window.reads);
      await this.#window.prefill(prompt, this.#reader(prefix, reads));
      this.#verdict.resolve(null);
      this.#turns.resolve([]);
    } catch (error) {
      this.#reject(error);
      throw error;
    }
  }

  /** There is nothing to read, for this reason. Once there is, the context tells how that ends. */
  refuse(reason: unknown): void {
    if (this.#tokens === null) this.#reject(reason);
  }

  #reader({ ids, promptIndex, turns }: Prefix, reads: readonly WindowRead[]): PromptReader {
    const verdicts: TurnVerdict[] = [];
    const asked = turns.findIndex(({ end }) => end === promptIndex);
    let left = reads.filter(({ turn }) => turn === asked).length;
    return (logits, at, { turn, index, alone }) => {
      const { role, empty, end, standing } = turns[turn];
      const tokenId = ids[end];
      const verdict: Verdict = {
        index,
        tokenId,
        text: this.#tokenizer.decode([tokenId]),
        ...judgePrompt(logits, at, this.#labels),
        provisional: false,
      };
      verdicts.push({
        ...verdict,
        ...{ role, empty, turn },
        ...(standing && { standing }),
        ...(alone && { alone }),
      });
      if (turn === asked && --left === 0) this.#verdict.resolve(verdictOn(asked, verdicts));
      if (verdicts.length === reads.length) this.#turns.resolve(verdicts.sort(byPlace));
    };
  }

  #reject(reason: unknown): void {
    for (const { reject } of [this.#verdict, this.#turns] as Deferred<unknown>[]) reject(reason);
  }
}

function verdictOn(asked: number, turns: readonly TurnVerdict[]): Verdict {
  const own = turns.filter(({ turn }) => turn === asked);
  const { role: _, empty: __, turn: ___, alone: ____, ...verdict } = worstOf(own);
  return verdict;
}

/** As the conversation has them, the one that has all of it before it last. */
function byPlace(a: TurnVerdict, b: TurnVerdict): number {
  return a.turn - b.turn || a.index - b.index || Number(b.alone ?? false) - Number(a.alone ?? false);
}
