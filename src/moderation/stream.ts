import type { Sequence } from "../engine/sequence.js";
import { ClosedError, type GuardError } from "../errors.js";
import type { GuardConfig } from "../model/config.js";
import type { Prefix } from "../tokenizer/chat-template/template.js";
import type { Revision } from "../tokenizer/incremental.js";
import { inTurns, SLICE } from "../tokenizer/slices.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { CallOrder } from "./call-order.js";
import { ContextWindow } from "./context-window.js";
import type { Decision } from "./decision.js";
import { JudgedPrompt } from "./judged-prompt.js";
import { JudgedResponse } from "./judged-response.js";
import { severityOf } from "./labels.js";
import { ResponseText } from "./response-text.js";
import type { Ruling } from "./ruling.js";
import { RunningRuling } from "./running-ruling.js";
import { type InputKind, idsOf, requireSame, requireText } from "./stream-input.js";
import { StreamLife } from "./stream-life.js";
import type { StreamOptions } from "./stream-options.js";
import type { TurnVerdict, Verdict } from "./verdict.js";

/**
 * One conversation under watch: the prompt's verdict, then a verdict for every token of the response. Work is queued
 * and runs beside the event loop; promises resolve in the order of the calls. When anything fails, the stream fails:
 * whatever waits and whatever comes later rejects with the same error, and nothing counts as safe.
 */
export class GuardStream {
  readonly #tokenizer: Tokenizer;
  readonly #options: StreamOptions;
  readonly #window: ContextWindow;
  readonly #prompt: JudgedPrompt;
  readonly #text: ResponseText;
  readonly #response: JudgedResponse;
  readonly #ruling: RunningRuling | null;
  readonly #life: StreamLife;
  /** While the prompt, or a long text, is encoded in slices, what is called meanwhile waits. */
  readonly #calls = new CallOrder();
  #input: InputKind | null = null;
  #end: Promise<Decision> | null = null;

  constructor(
    sequence: Sequence,
    tokenizer: Tokenizer,
    labels: GuardConfig["labels"],
    prefix: Prefix | Promise<Prefix>,
    options: StreamOptions = {},
  ) {
    const { policy, restarts = false } = options;
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#window = new ContextWindow(sequence, options);
    this.#prompt = new JudgedPrompt(this.#window, tokenizer, labels);
    this.#text = new ResponseText(tokenizer);
    this.#ruling = policy ? new RunningRuling(policy) : null;
    this.#response = new JudgedResponse(this.#window, tokenizer, labels, { restarts, ruling: this.#ruling });
    this.#life = new StreamLife(options.idleMs, this.#window, (reason) => this.#letGo(reason));
    this.#begin(prefix);
    this.#life.heed(options.signal);
  }

  /**
   * Verdict of the prompt moderator at the `<|im_end|>` that closes the last user turn; in a conversation without one,
   * the last turn. Null where no turn is closed, which only `promptIds` can bring about. Resolves as soon as that token
   * is judged. Where several windows held that turn, the worst of its verdicts.
   */
  get prompt(): Promise<Verdict | null> {
    return this.#prompt.verdict;
  }

  /**
   * Verdicts at the end of every turn of the conversation, in order; `rulePrompt` picks those that a policy is about.
   * Resolves with the last of them. Of a conversation that is judged in windows only those that the scope is about, and of
   * a turn that is cut one for each window. Of a turn that is read once more (`closely`) there are two.
   */
  get turns(): Promise<readonly TurnVerdict[]> {
    return this.#prompt.turns;
  }

  /** Why the stream ended, once it has: STREAM_ENDED, STREAM_CLOSED, or what made it fail. Never rejects. */
  get closed(): Promise<GuardError> {
    return this.#life.closed;
  }

  /** When it was opened: milliseconds of `performance.now()`. */
  get openedAt(): number {
    return this.#life.openedAt;
  }

  /** How many tokens, from the first, have verdicts that no later text can change. */
  get settled(): number {
    return this.#response.settled;
  }

  /** What the policy makes of the verdicts that stand so far, the prompt's first; null for a stream without one. */
  get ruling(): Ruling | null {
    return this.#ruling?.current ?? null;
  }

  /** Whether it has not got a slot yet. */
  get waiting(): boolean {
    return this.#window.waiting;
  }

  /** When it last had something to do: milliseconds of `performance.now()`. */
  get usedAt(): number {
    return this.#life.usedAt;
  }

  /** Tokens of the templated conversation; 0 while it is being encoded. */
  get promptTokens(): number {
    return this.#prompt.tokens;
  }

  /** Of these, those that were read before, for this stream's or another's sake: they cost nothing. */
  get reusedTokens(): number {
    // Where windows overlap, some are read more than once.
    return Math.min(this.#window.reusedTokens, this.promptTokens);
  }

  /** How often the context was full and slid on (`overflow: "slide"`). */
  get slides(): number {
    return this.#window.slides;
  }

  /** Of the response since it last began again (`restart`), tokens from the first that had been judged before. */
  get recalled(): number {
    return this.#response.recalled;
  }

  /**
   * Judges response tokens, given as ids of this model's tokenizer.
   *
   * @returns one verdict for each id, in order
   * @throws {InputError} TOKEN_INVALID (nothing was pushed, the stream goes on), MIXED_INPUT
   * @throws {ContextLengthError} CONTEXT_EXCEEDED; the stream fails
   * @throws {NumericError} LOGITS_NOT_FINITE; the stream fails
   * @throws {ClosedError} STREAM_CLOSED, STREAM_ENDED, STREAM_ABORTED, GUARD_CLOSED
   */
  async push(tokens: number | ArrayLike<number>): Promise<Verdict[]> {
    const ids = idsOf(tokens, this.#tokenizer);
    this.#accept("ids");
    return this.#calls.run(() => this.#judge({ from: this.#window.length, ids, provisional: 0 }));
  }

  /**
   * Judges response text from any tokenizer, in chunks of any size. Tokens whose boundary later text could still move
   * are judged at once and marked provisional; when it does move, the revised verdicts come out with the same indexes.
   * A chunk of many thousand characters is encoded in slices, between which the event loop goes on.
   *
   * @returns the verdicts this chunk added or revised, in order
   * @throws as `push`, and InputError TEXT_INVALID; MARKS_TOO_MANY and TEXT_UNSETTLED: the stream fails
   */
  async pushText(chunk: string): Promise<Verdict[]> {
    this.#acceptText(chunk, "pushText");
    return this.#calls.run(() => this.#encode(chunk, () => this.#judgeText()));
  }

  /**
   * Takes response text that the next `pushText`, `flush` or `end` judges along with its own: many tokens at once cost less
   * than one by one.
   *
   * @returns how many tokens wait
   * @throws as `pushText`
   */
  async stage(chunk: string): Promise<number> {
    this.#acceptText(chunk, "stage");
    return this.#calls.run(() => this.#encode(chunk, async () => this.#text.staged));
  }

  /**
   * Settles all text so far, as if it ended here: text pushed later is encoded on its own.
   *
   * @returns the verdicts this revised, in order
   * @throws as `push`
   */
  async flush(): Promise<Verdict[]> {
    if (this.#end) throw ended();
    return this.#flush();
  }

  /**
   * Begins the response again, as text; once all pushes so far have resolved. The prompt stays, and of the text that
   * comes, what is as it was before is not run again where the stream keeps its verdicts.
   *
   * @throws as `pushText`
   */
  restart(): void {
    this.#acceptText("", "restart");
    this.#text.restart();
    this.#response.restart();
  }

  /**
   * Settles the provisional tail, frees the stream's slot and sums up. Further calls return the same decision.
   *
   * @throws {InputError} EMPTY_RESPONSE
   * @throws what made the stream fail
   */
  end(): Promise<Decision> {
    this.#end ??= this.#finish();
    return this.#end;
  }

  /** Ends the stream at any time and frees its slot; pushes that wait reject with the reason. Idempotent. */
  close(
    reason: GuardError = new ClosedError(
      "STREAM_CLOSED",
      "The stream was closed. Open another with guard.stream().",
    ),
  ): void {
    this.#life.stop(reason);
  }

  /** `using stream = guard.stream(…)` closes it. */
  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Has the prompt judged, as soon as it is encoded. */
  #begin(prefix: Prefix | Promise<Prefix>): void {
    const { overflow, windows, scope = "conversation", span = null, answerToo = false } = this.#options;
    const cuts = overflow === "slide" ? (windows ?? null) : null;
    const reading = { scope, span, answerToo };
    const read = (encoded: Prefix) => void this.#life.during(this.#prompt.read(encoded, cuts, reading));
    if (prefix instanceof Promise) this.#calls.waitFor(this.#life.during(prefix).then(read));
    else read(prefix);
    // Where the prompt was not judged, neither is what comes after it.
    if (this.#ruling) this.#life.during(this.turns.then((turns) => this.#ruling?.prompt(turns)));
  }

  /** Encodes a text, and goes on at once, or once all slices of a long one are encoded. */
  async #encode<T>(chunk: string, goOn: () => Promise<T>): Promise<T> {
    if (this.#window.failure) throw this.#window.failure;
    if (chunk.length <= SLICE) {
      this.#life.now(() => this.#text.push(chunk));
      return goOn();
    }
    const encoded = this.#life.during(inTurns(this.#text.pushInSlices(chunk)));
    // Ahead of the calls that wait.
    const gone = encoded.then(goOn);
    this.#calls.waitFor(encoded);
    return gone;
  }

  #flush(): Promise<Verdict[]> {
    return this.#calls.run(async () => {
      if (this.#window.failure) throw this.#window.failure;
      this.#life.now(() => this.#text.end());
      return this.#judgeText(true);
    });
  }

  #judgeText(complete = false): Promise<Verdict[]> {
    return this.#judge(this.#text.take() ?? { from: this.#window.length, ids: [], provisional: 0 }, complete);
  }

  #judge(revision: Revision, complete = false): Promise<Verdict[]> {
    return this.#life.during(this.#response.judge(revision, complete));
  }

  async #finish(): Promise<Decision> {
    await this.#flush();
    const decision = this.#life.now(() => this.#response.decide());
    this.#life.stop(ended());
    const { onClear } = this.#options;
    if (onClear && decision.flaggedAt === null && this.slides === 0) {
      const prompt = await this.prompt;
      if (prompt && severityOf(prompt.risk) === "safe") onClear(this.#response.text);
    }
    return decision;
  }

  #acceptText(chunk: unknown, method: string): void {
    requireText(chunk, method);
    this.#accept("text");
  }

  #accept(input: InputKind): void {
    if (this.#window.failure) throw this.#window.failure;
    if (this.#end) throw ended();
    requireSame(input, this.#input);
    this.#input = input;
  }

  /** Ends all that it holds. */
  #letGo(reason: GuardError): void {
    this.#window.close(reason);
    this.#prompt.refuse(reason);
    if (this.#calls.preparing) this.#calls.goOn();
  }
}

function ended(): ClosedError {
  return new ClosedError("STREAM_ENDED", "The stream has ended. Open another with guard.stream().");
}
