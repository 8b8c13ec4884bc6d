import { InputError } from "../errors.js";
import type { GuardConfig } from "../model/config.js";
import { IncrementalDecoder, type Revision } from "../tokenizer/incremental.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { ContextWindow } from "./context-window.js";
import { type Decision, decide, type Judged } from "./decision.js";
import { severityOf } from "./labels.js";
import type { RunningRuling } from "./running-ruling.js";
import { judgeResponse, type Verdict } from "./verdict.js";
import { VerdictMemory } from "./verdict-memory.js";

/** No UTF-8 character spans more tokens than this: that many tokens back, a decoder finds its feet again. */
const LONGEST_CHARACTER = 4;

/** A response's tokens that were judged so far: their verdicts, and the text that they make. */
export class JudgedResponse {
  readonly #window: ContextWindow;
  readonly #tokenizer: Tokenizer;
  readonly #labels: GuardConfig["labels"];
  readonly #memory: VerdictMemory | null;
  readonly #ruling: RunningRuling | null;
  #decoder: IncrementalDecoder;
  readonly #ids: number[] = [];
  readonly #judged: Judged[] = [];
  #settled = 0;
  /** Ends with the last feed so far: results come out in the order of the calls. */
  #judging: Promise<void> = Promise.resolve();

  /**
   * @param restarts keeps the verdicts, so that what comes again after `restart` need not be run again
   * @param ruling is told of the verdicts; null: there is none
   */
  constructor(
    window: ContextWindow,
    tokenizer: Tokenizer,
    labels: GuardConfig["labels"],
    { restarts, ruling }: { restarts: boolean; ruling: RunningRuling | null },
  ) {
    this.#window = window;
    this.#tokenizer = tokenizer;
    this.#labels = labels;
    this.#memory = restarts ? new VerdictMemory() : null;
    this.#ruling = ruling;
    this.#decoder = new IncrementalDecoder(tokenizer);
  }

  /** How many of them, from the first, no later text can change. */
  get settled(): number {
    return this.#settled;
  }

  /** Tokens since `restart`, from the first, that had been judged before. */
  get recalled(): number {
    return this.#memory?.recalled ?? 0;
  }

  /**
   * Judges tokens in place of all that were there from an index on.
   *
   * @param complete nothing comes that goes on from these tokens
   * @throws as `ContextWindow.feed`
   */
  async judge({ from, ids, provisional }: Revision, complete: boolean): Promise<Verdict[]> {
    const settled = from + ids.length - provisional;
    const verdicts = this.#recall(from, ids, settled);
    const rest = verdicts.length === 0 ? ids : ids.slice(verdicts.length);
    const isKnown = rest.length === 0 && !complete && this.#memory?.follows;
    const fed = isKnown ? Promise.resolve() : this.#feed(from + verdicts.length, rest, settled, verdicts);
    fed.catch(() => {});
    // Feeds that share a step end at the same moment, however many promises lie between.
    this.#judging = this.#judging.then(() => fed);
    await this.#judging;
    this.#rewind(this.#window.length);
    this.#settled = settled;
    this.#ruling?.response(verdicts, settled);
    return verdicts;
  }

  /** The response begins again. */
  restart(): void {
    this.#rewind(0);
    this.#settled = 0;
    this.#memory?.restart();
    this.#ruling?.restart();
  }

  /** @throws {InputError} EMPTY_RESPONSE */
  decide(): Decision {
    if (this.#ids.length === 0) throw emptyResponse();
    const safe = this.#labels.responseRisk.find((label) => severityOf(label) === "safe") as string;
    return decide(this.#judged, safe);
  }

  /** The text they make, without control tokens. */
  get text(): string {
    const control = new Set(this.#tokenizer.controlTokens.values());
    return this.#tokenizer.decode(this.#ids.filter((id) => !control.has(id)));
  }

  /** The verdicts of the first of these tokens, as far as they were there before `restart`. */
  #recall(from: number, ids: readonly number[], settled: number): Verdict[] {
    const known = this.#memory?.recall(from, ids) ?? [];
    for (const verdict of known) this.#take(verdict.index, verdict.tokenId, verdict);
    return known.map((verdict) => ({ ...verdict, provisional: verdict.index >= settled }));
  }

  #feed(from: number, ids: readonly number[], settled: number, verdicts: Verdict[]): Promise<void> {
    this.#memory?.leave(from);
    return this.#window.feed(from, ids, (logits, step, index) => {
      const tokenId = ids[index - from];
      const judgement = judgeResponse(logits, step, this.#labels);
      const text = this.#take(index, tokenId, judgement);
      const verdict = { index, tokenId, text, ...judgement, provisional: index >= settled };
      this.#memory?.keep(verdict);
      verdicts.push(verdict);
    });
  }

  /** Takes the token at an index, in place of all that were there. Returns the text that it completes. */
  #take(index: number, tokenId: number, { risk, category }: Judged): string {
    this.#rewind(index);
    this.#ids.push(tokenId);
    this.#judged.push({ risk, category });
    return this.#decoder.push(tokenId);
  }

  /** Forgets the tokens from `length` on. */
  #rewind(length: number): void {
    if (length >= this.#ids.length) return;
    this.#ids.length = length;
    this.#judged.length = length;
    this.#decoder = new IncrementalDecoder(this.#tokenizer);
    for (const id of this.#ids.slice(-LONGEST_CHARACTER)) this.#decoder.push(id);
  }
}

function emptyResponse(): InputError {
  return new InputError(
    "EMPTY_RESPONSE",
    "The response holds no token, so there is nothing to judge. To judge a prompt alone, await stream.prompt and close the stream.",
  );
}
