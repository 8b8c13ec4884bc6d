import type { Sequence } from "../engine/sequence.js";
import { ClosedError, type GuardError, InputError } from "../errors.js";
import type { GuardConfig } from "../model/config.js";
import type { Prefix } from "../tokenizer/chat-template/template.js";
import { TURN_END } from "../tokenizer/chat-template/turns.js";
import { IncrementalEncoder, type Revision } from "../tokenizer/incremental.js";
import { MOST_UNSETTLED, promptTooLong, tooManyWindows } from "../tokenizer/limits.js";
import { inTurns, SLICE } from "../tokenizer/slices.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { CallOrder } from "./call-order.js";
import { ContextWindow, type Overflow, type PromptInWindows, type PromptReader } from "./context-window.js";
import type { Decision } from "./decision.js";
import { IdleTimer } from "./idle-timer.js";
import { JudgedTokens } from "./judged-tokens.js";
import { severityOf } from "./labels.js";
import type { Policy, PromptScope } from "./policy.js";
import { lastWindow, planWindows, type WindowSizes, wholeWindow } from "./prompt-windows.js";
import { Reviewer } from "./reviewer.js";
import { type Finding, type Ruling, rulePrompt, turnsInScope } from "./ruling.js";
import {
  judgePrompt,
  judgeResponse,
  type TurnVerdict,
  type Verdict,
  verdictsOfTurn,
  worstOf,
} from "./verdict.js";
import { VerdictMemory } from "./verdict-memory.js";

export interface StreamOptions {
  signal?: AbortSignal;
  overflow?: Overflow;
  /** How a conversation is cut that is longer than the context, where it may be ("slide"). Default: it is refused. */
  windows?: WindowSizes | null;
  /** What of such a conversation is judged. Default: all of it. */
  scope?: PromptScope;
  /** How often a response may slide on ("slide"). Default: without end. */
  mostSlides?: number;
  /** Opens another sequence where a slot is free and nobody waits for it. */
  spare?: () => Sequence | null;
  policy?: Policy;
  /** Closes the stream with STREAM_IDLE when nothing was pushed and nothing judged for this many milliseconds. */
  idleMs?: number;
  /** Called with the text of a response that ended and was clear, as its prompt was, and that never slid. */
  onClear?: (response: string) => void;
  /** Keeps the verdicts, so that after `restart` what comes again as it was is not run again. Default false. */
  restarts?: boolean;
}

/**
 * One conversation under watch: the prompt's verdict, then a verdict for every token of the response. Work is queued
 * and runs beside the event loop; promises resolve in the order of the calls. When anything fails, the stream fails:
 * whatever waits and whatever comes later rejects with the same error, and nothing counts as safe.
 */
export class GuardStream {
  /**
   * Verdict of the prompt moderator at the `<|im_end|>` that closes the last user turn; in a conversation without one,
   * the last turn. Null where no turn is closed, which only `promptIds` can bring about. Resolves as soon as that token
   * is judged. Where several windows held that turn, the worst of its verdicts.
   */
  readonly prompt: Promise<Verdict | null>;

  /**
   * Verdicts at the end of every turn of the conversation, in order; `rulePrompt` picks those that a policy is about.
   * Resolves with the last of them. Of a conversation that is judged in windows only those that the scope is about, and of
   * a turn that is cut one for each window.
   */
  readonly turns: Promise<readonly TurnVerdict[]>;

  /** Why the stream ended, once it has: STREAM_ENDED, STREAM_CLOSED, or what made it fail. Never rejects. */
  readonly closed: Promise<GuardError>;

  /** When it was opened: milliseconds of `performance.now()`. */
  readonly openedAt = performance.now();
  #stopped = false;
  readonly #idle: IdleTimer;
  #resolveClosed!: (reason: GuardError) => void;
  readonly #window: ContextWindow;
  readonly #tokenizer: Tokenizer;
  readonly #labels: GuardConfig["labels"];
  readonly #signal: AbortSignal | undefined;
  readonly #cut: Pick<StreamOptions, "overflow" | "windows" | "scope">;
  #promptTokens = 0;
  /** While the prompt, or a long text, is encoded in slices, what is called meanwhile waits. */
  readonly #calls = new CallOrder();
  /** Tells that the stream was stopped to who waits for a prompt that is not with the sequence yet. */
  #refusePrompt: ((reason: unknown) => void) | null = null;
  #encoder: IncrementalEncoder | null = null;
  /** Response index of the encoder's first token. */
  #encoderBase = 0;
  /** What text has done to the response's tokens since they were last judged. */
  #staged: Revision | null = null;
  #input: "ids" | "text" | null = null;
  readonly #tokens: JudgedTokens;
  readonly #memory: VerdictMemory | null;
  readonly #policy: Policy | undefined;
  #reviewer: Reviewer | null = null;
  #promptRuling: Ruling | null = null;
  readonly #observed: Finding[] = [];
  readonly #onClear: ((response: string) => void) | undefined;
  #settled = 0;
  /** Ends with the last feed so far: results come out in the order of the calls. */
  #judging: Promise<void> = Promise.resolve();
  #end: Promise<Decision> | null = null;

  constructor(
    sequence: Sequence,
    tokenizer: Tokenizer,
    labels: GuardConfig["labels"],
    prefix: Prefix | Promise<Prefix>,
    options: StreamOptions = {},
  ) {
    const { signal, overflow = "error", spare = () => null, policy, idleMs, onClear, restarts } = options;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#idle = new IdleTimer(idleMs, () => this.#stop(idle(idleMs as number)));
    this.#window = new ContextWindow(sequence, overflow, spare, options.mostSlides);
    this.#cut = options;
    this.#tokenizer = tokenizer;
    this.#labels = labels;
    this.#tokens = new JudgedTokens(tokenizer);
    this.#signal = signal;
    this.#onClear = onClear;
    this.#memory = restarts ? new VerdictMemory() : null;
    this.#policy = policy;
    signal?.addEventListener("abort", this.#abort);
    const { prompt, turns } = this.#prefill(prefix);
    this.prompt = prompt;
    this.turns = turns;
    // Who never asks for the prompt's verdict must not be killed by its rejection; pushes reject all the same.
    for (const verdict of [prompt, turns]) verdict.catch(() => {});
    if (policy) this.#ruleBy(policy);
    if (signal?.aborted) this.#abort();
  }

  /** How many tokens, from the first, have verdicts that no later text can change. */
  get settled(): number {
    return this.#settled;
  }

  /** What the policy makes of the verdicts that stand so far, the prompt's first; null for a stream without one. */
  get ruling(): Ruling | null {
    if (!this.#reviewer) return null;
    const violation = this.#promptRuling?.violation ?? this.#reviewer.violation;
    const observed = [...(this.#promptRuling?.observed ?? []), ...this.#observed];
    const action = violation ? "block" : observed.length > 0 ? "observe" : "pass";
    return { action, violation, observed };
  }

  /** Whether it has not got a slot yet. */
  get waiting(): boolean {
    return this.#window.waiting;
  }

  /** When it last had something to do: milliseconds of `performance.now()`. */
  get usedAt(): number {
    return this.#idle.usedAt;
  }

  /** Tokens of the templated conversation; 0 while it is being encoded. */
  get promptTokens(): number {
    return this.#promptTokens;
  }

  /** Of these, those that were read before, for this stream's or another's sake: they cost nothing. */
  get reusedTokens(): number {
    return this.#window.reusedTokens;
  }

  /** How often the context was full and slid on (`overflow: "slide"`). */
  get slides(): number {
    return this.#window.slides;
  }

  /** Of the response since it last began again (`restart`), tokens from the first that had been judged before. */
  get recalled(): number {
    return this.#memory?.recalled ?? 0;
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
    const ids = typeof tokens === "number" ? [tokens] : toIds(tokens);
    // A model may have more ids than its tokenizer: those stand for nothing.
    for (const id of ids) this.#tokenizer.tokenBytes(id);
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
    return this.#calls.run(() => this.#encodeText(chunk, (encode) => this.#judgeText(encode)));
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
    return this.#calls.run(() => this.#encodeText(chunk, async (encode) => this.#revise(encode).ids.length));
  }

  /**
   * Settles all text so far, as if it ended here: text pushed later is encoded on its own.
   *
   * @returns the verdicts this revised, in order
   * @throws as `push`
   */
  async flush(): Promise<Verdict[]> {
    if (this.#end)
      throw new ClosedError("STREAM_ENDED", "The stream has ended. Open another with guard.stream().");
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
    this.#encoder = new IncrementalEncoder(this.#tokenizer);
    this.#encoderBase = 0;
    this.#staged = null;
    this.#settled = 0;
    this.#tokens.rewind(0);
    this.#memory?.restart();
    if (!this.#policy) return;
    this.#reviewer = new Reviewer(this.#policy.response);
    this.#observed.length = 0;
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
    this.#stop(reason);
  }

  /** `using stream = guard.stream(…)` closes it. */
  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #prefill(prefix: Prefix | Promise<Prefix>): Pick<GuardStream, "prompt" | "turns"> {
    const prompt = settled<Verdict | null>();
    const turns = settled<readonly TurnVerdict[]>();
    const fail = (error: unknown) => {
      this.#stop(error as GuardError);
      prompt.reject(error);
      turns.reject(error);
    };
    const begin = (encoded: Prefix) => {
      this.#refusePrompt = null;
      this.#feedPrefix(encoded, prompt.resolve, turns.resolve).catch(fail);
    };
    if (prefix instanceof Promise) {
      this.#refusePrompt = fail;
      this.#hold(prefix.then(begin, fail));
    } else begin(prefix);
    return { prompt: prompt.promise, turns: turns.promise };
  }

  async #feedPrefix(
    prefix: Prefix,
    tellPrompt: (verdict: Verdict | null) => void,
    tellTurns: (verdicts: readonly TurnVerdict[]) => void,
  ): Promise<void> {
    const { ids, promptIndex, turns } = prefix;
    this.#promptTokens = ids.length;
    const prompt = this.#inWindows(prefix);
    const most = prompt.windows.reduce((sum, { reads }) => sum + reads.length, 0);
    const verdicts: TurnVerdict[] = [];
    this.#idle.begin();
    const read: PromptReader = (logits, at, { turn, index }) => {
      const { role, empty, end, standing } = turns[turn];
      const tokenId = ids[end];
      const verdict = {
        index,
        tokenId,
        text: this.#tokenizer.decode([tokenId]),
        ...judgePrompt(logits, at, this.#labels),
        provisional: false,
      };
      verdicts.push({ ...verdict, role, empty, turn, ...(standing && { standing }) });
      if (index === promptIndex) tellPrompt(promptVerdict(verdicts, index));
      if (verdicts.length === most) tellTurns(verdicts);
    };
    await this.#window.prefill(prompt, read);
    this.#idle.end();
    tellPrompt(null);
    tellTurns(verdicts);
  }

  /** @throws {ContextLengthError} PROMPT_TOO_LONG */
  #inWindows(prefix: Prefix): PromptInWindows {
    const { maxTokens } = this.#window;
    const { overflow, windows: sizes, scope = "conversation" } = this.#cut;
    const length = prefix.ids.length;
    const cuts = overflow === "slide" && sizes ? sizes : null;
    if (length < maxTokens) {
      const short = cuts && length > cuts.length ? lastWindow(prefix, cuts) : null;
      return { windows: [wholeWindow(prefix)], short };
    }
    if (!cuts) throw promptTooLong(length, maxTokens);
    const scoped = turnsInScope(
      prefix.turns.map(({ role, empty }, turn) => ({ role, empty, turn })),
      scope,
    );
    const counting = new Set(scoped.map(({ turn }) => turn));
    const close = this.#tokenizer.tokenId(TURN_END) as number;
    const windows = planWindows(prefix, cuts, (turn) => counting.has(turn), close);
    if (windows.length > cuts.most) throw tooManyWindows(windows.length, cuts.most);
    return { windows, short: null };
  }

  /** Lets calls wait until something is encoded. */
  #hold(encoded: Promise<unknown>): void {
    this.#idle.begin();
    const end = () => this.#idle.end();
    encoded.then(end, end);
    this.#calls.waitFor(encoded);
  }

  #ruleBy(policy: Policy): void {
    this.#reviewer = new Reviewer(policy.response);
    const rule = (turns: readonly TurnVerdict[]) => {
      this.#promptRuling = rulePrompt(turns, policy);
    };
    // Where the prompt was not judged, neither is what comes after it.
    this.turns.then(rule).catch((error) => this.#stop(error));
  }

  /** @param goOn is told, by a call, what the text does to the response's tokens */
  async #encodeText<T>(chunk: string, goOn: (encode: () => Revision) => Promise<T>): Promise<T> {
    if (this.#window.failure) throw this.#window.failure;
    this.#encoder ??= new IncrementalEncoder(this.#tokenizer);
    const encoder = this.#encoder;
    if (chunk.length <= SLICE) return goOn(() => encoder.push(chunk));
    const encoded = inTurns(encoder.pushInSlices(chunk));
    const gone = encoded.then(
      (revision) => goOn(() => revision),
      (error) =>
        goOn(() => {
          throw error;
        }),
    );
    this.#hold(encoded);
    return gone;
  }

  async #judgeText(encode: () => Revision, complete = false): Promise<Verdict[]> {
    const revision = this.#revise(encode);
    this.#staged = null;
    return this.#judge(revision, complete);
  }

  /** What more text does to all tokens that were judged, with what waits. */
  #revise(encode: () => Revision): Revision {
    try {
      const { from, ids, provisional } = encode();
      if (provisional > MOST_UNSETTLED) throw unsettled();
      const revision = { from: this.#encoderBase + from, ids, provisional };
      this.#staged = this.#staged ? joined(this.#staged, revision) : revision;
      return this.#staged;
    } catch (error) {
      this.#stop(error as GuardError);
      throw error;
    }
  }

  /** @param complete nothing comes that goes on from these tokens */
  async #judge({ from, ids, provisional }: Revision, complete = false): Promise<Verdict[]> {
    const settled = from + ids.length - provisional;
    const verdicts = this.#recall(from, ids, settled);
    const next = from + verdicts.length;
    this.#idle.begin();
    try {
      const goesOn = complete || next < from + ids.length || !this.#memory?.follows;
      const rest = next === from ? ids : ids.slice(next - from);
      const fed = goesOn ? this.#feed(next, rest, settled, verdicts) : Promise.resolve();
      fed.catch(() => {});
      // Feeds that share a step end at the same moment, however many promises lie between.
      this.#judging = this.#judging.then(() => fed);
      await this.#judging;
    } catch (error) {
      // Going on would leave a hole in what was judged.
      this.#stop(error as GuardError);
      throw error;
    }
    this.#idle.end();
    this.#settled = settled;
    const review = this.#reviewer?.review(verdicts, settled);
    if (review) this.#observed.push(...review.observed);
    return verdicts;
  }

  /** The verdicts of the first of these tokens, where the response has begun again and they were there before. */
  #recall(from: number, ids: readonly number[], settled: number): Verdict[] {
    const known = this.#memory?.recall(from, ids) ?? [];
    for (const verdict of known) this.#tokens.take(verdict.index, verdict.tokenId, verdict);
    return known.map((verdict) => ({ ...verdict, provisional: verdict.index >= settled }));
  }

  #feed(from: number, ids: readonly number[], settled: number, verdicts: Verdict[]): Promise<void> {
    this.#memory?.leave(from);
    return this.#window.feed(from, ids, (logits, step, index) => {
      const tokenId = ids[index - from];
      const judgement = judgeResponse(logits, step, this.#labels);
      const text = this.#tokens.take(index, tokenId, judgement);
      const verdict = { index, tokenId, text, ...judgement, provisional: index >= settled };
      this.#memory?.keep(verdict);
      verdicts.push(verdict);
    });
  }

  #flush(): Promise<Verdict[]> {
    return this.#calls.run(() => this.#settleText());
  }

  async #settleText(): Promise<Verdict[]> {
    if (this.#window.failure) throw this.#window.failure;
    if (!this.#encoder) return this.#judge({ from: this.#window.length, ids: [], provisional: 0 });
    const encoder = this.#encoder;
    const judged = this.#judgeText(() => encoder.end(), true);
    this.#encoder = null;
    this.#encoderBase = this.#window.length;
    const verdicts = await judged;
    this.#tokens.rewind(this.#window.length);
    return verdicts;
  }

  async #finish(): Promise<Decision> {
    await this.#flush();
    if (this.#tokens.length === 0) {
      const error = new InputError(
        "EMPTY_RESPONSE",
        "The response holds no token, so there is nothing to judge. To judge a prompt alone, await stream.prompt and close the stream.",
      );
      this.#stop(error);
      throw error;
    }
    const safe = this.#labels.responseRisk.find((label) => severityOf(label) === "safe") as string;
    const decision = this.#tokens.decide(safe);
    this.#stop(new ClosedError("STREAM_ENDED", "The stream has ended. Open another with guard.stream()."));
    if (this.#onClear && decision.risk === safe && this.slides === 0) {
      const prompt = await this.prompt;
      if (prompt && severityOf(prompt.risk) === "safe") this.#onClear(this.#tokens.text);
    }
    return decision;
  }

  #acceptText(chunk: unknown, method: string): void {
    if (typeof chunk !== "string") {
      throw new InputError(
        "TEXT_INVALID",
        `${method} takes a string, not ${typeof chunk}. For token ids use push.`,
      );
    }
    this.#accept("text");
  }

  #accept(input: "ids" | "text"): void {
    if (this.#window.failure) throw this.#window.failure;
    if (this.#end)
      throw new ClosedError("STREAM_ENDED", "The stream has ended. Open another with guard.stream().");
    if (this.#input && this.#input !== input) {
      throw new InputError(
        "MIXED_INPUT",
        "A stream takes either ids (push) or text (pushText), not both in turns.",
      );
    }
    this.#input = input;
  }

  #abort = (): void => {
    const { reason } = this.#signal as AbortSignal;
    this.#stop(new ClosedError("STREAM_ABORTED", "The stream was aborted by its signal.", { cause: reason }));
  };

  #stop(reason: GuardError): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#idle.stop();
    this.#resolveClosed(this.#window.failure ?? reason);
    this.#window.close(reason);
    const refuse = this.#refusePrompt;
    this.#refusePrompt = null;
    refuse?.(reason);
    if (this.#calls.preparing) this.#calls.goOn();
  }
}

/** Two revisions one after the other, as one. */
function joined(first: Revision, { from, ids, provisional }: Revision): Revision {
  if (from <= first.from) return { from, ids, provisional };
  return { from: first.from, ids: [...first.ids.slice(0, from - first.from), ...ids], provisional };
}

function promptVerdict(turns: readonly TurnVerdict[], index: number): Verdict {
  const { role: _, empty: __, turn: ___, ...verdict } = worstOf(verdictsOfTurn(turns, { index }));
  return verdict;
}

function idle(ms: number): ClosedError {
  return new ClosedError(
    "STREAM_IDLE",
    `Nothing was pushed for ${ms} ms, so the stream was closed and its slot is free. Open another with ` +
      "guard.stream(), or load the guard with a longer idleMs.",
  );
}

function unsettled(): InputError {
  return new InputError(
    "TEXT_UNSETTLED",
    `The last ${MOST_UNSETTLED} tokens of the text could all still change with what comes next, which only white space ` +
      "without end does. Nothing after what was judged may be shown.",
  );
}

interface Settled<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

function settled<T>(): Settled<T> {
  let resolve!: Settled<T>["resolve"];
  let reject!: Settled<T>["reject"];
  const promise = new Promise<T>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  return { promise, resolve, reject };
}

function toIds(tokens: ArrayLike<number>): number[] {
  if (typeof tokens?.length === "number" && typeof tokens !== "string") return Array.from(tokens);
  throw new InputError("TOKEN_INVALID", "push takes a token id or a list of ids. For text use pushText.");
}
