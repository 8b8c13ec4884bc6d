import type { GuardConfig } from "../checkpoint/config.js";
import type { LogitsReader, Sequence } from "../engine/sequence.js";
import { ClosedError, type GuardError, InputError } from "../errors.js";
import { IncrementalDecoder, IncrementalEncoder, type Revision } from "../tokenizer/incremental.js";
import { MOST_UNSETTLED } from "../tokenizer/limits.js";
import { inTurns, SLICE } from "../tokenizer/slices.js";
import type { Prefix } from "../tokenizer/template.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type Decision, decide, type Judged } from "./decision.js";
import { severityOf } from "./labels.js";
import type { Policy } from "./policy.js";
import { type Finding, RuleTracker, type Ruling, rulePrompt } from "./ruling.js";
import { SettledVerdicts } from "./settled-verdicts.js";
import { judgePrompt, judgeResponse, type TurnVerdict, type Verdict } from "./verdict.js";

/** What a stream does when its response outgrows the model's context. */
export type Overflow = "error" | "slide";

export interface StreamOptions {
  signal?: AbortSignal;
  overflow?: Overflow;
  /** Opens another sequence where a slot is free and nobody waits for it. */
  spare?: () => Sequence | null;
  policy?: Policy;
  /** Closes the stream with STREAM_IDLE when nothing was pushed and nothing judged for this many milliseconds. */
  idleMs?: number;
}

/** Share of the room for a response from which on a sliding stream prepares to. */
const PREPARE_AT = 0.75;

/** No UTF-8 character spans more tokens than this: that many tokens back, a decoder finds its feet again. */
const LONGEST_CHARACTER = 4;

/**
 * One conversation under watch: the prompt's verdict, then a verdict for every token of the response. Work is queued
 * and runs beside the event loop; promises resolve in the order of the calls. When anything fails, the stream fails:
 * whatever waits and whatever comes later rejects with the same error, and nothing counts as safe.
 */
export class GuardStream {
  /**
   * Verdict of the prompt moderator at the `<|im_end|>` that closes the last user turn; in a conversation without one,
   * the last turn. Null where no turn is closed, which only `promptIds` can bring about. Resolves as soon as that token
   * is judged.
   */
  readonly prompt: Promise<Verdict | null>;

  /**
   * Verdicts at the end of every turn of the conversation, in order; `rulePrompt` picks those that a policy is about.
   * Resolves with the last of them.
   */
  readonly turns: Promise<readonly TurnVerdict[]>;

  /** Why the stream ended, once it has: STREAM_ENDED, STREAM_CLOSED, or what made it fail. Never rejects. */
  readonly closed: Promise<GuardError>;

  /** When it was opened: milliseconds of `performance.now()`. */
  readonly openedAt = performance.now();
  #usedAt = this.openedAt;
  /** Feeds under way. */
  #busy = 0;
  #stopped = false;
  readonly #idleTimer: NodeJS.Timeout | undefined;
  #resolveClosed!: (reason: GuardError) => void;
  #sequence: Sequence;
  readonly #tokenizer: Tokenizer;
  readonly #labels: GuardConfig["labels"];
  #prefixIds: readonly number[] = [];
  #prefixLength = 0;
  readonly #signal: AbortSignal | undefined;
  readonly #overflow: Overflow;
  readonly #spare: () => Sequence | null;
  /** Takes over when the context is full: reads the newest tokens meanwhile. */
  #successor: { sequence: Sequence; start: number } | null = null;
  /** Still have tokens to judge that were pushed before their successors took over. */
  readonly #retiring = new Set<Sequence>();
  /** While one sequence ends and another begins: what is to be fed to the next waits for it. */
  #handover: Promise<void> | null = null;
  /** While the prompt, or a long text, is encoded in slices: what is called meanwhile waits. */
  #encoding = false;
  readonly #calls: (() => void)[] = [];
  /** Tells that the stream was stopped to who waits for a prompt that is not with the sequence yet. */
  #refusePrompt: ((reason: unknown) => void) | null = null;
  #encoder: IncrementalEncoder | null = null;
  /** Response index of the encoder's first token. */
  #encoderBase = 0;
  #decoder: IncrementalDecoder;
  #input: "ids" | "text" | null = null;
  /** All response ids given to the sequence so far, judged or not. */
  readonly #fed: number[] = [];
  /** Response index of the first token that the context still holds. */
  #windowStart = 0;
  #slides = 0;
  #tracker: RuleTracker | null = null;
  #promptRuling: Ruling | null = null;
  readonly #settledVerdicts = new SettledVerdicts();
  readonly #observed: Finding[] = [];
  #settled = 0;
  /** Ends with the last feed so far: results come out in the order of the calls. */
  #judging: Promise<void> = Promise.resolve();
  #tokenIds: number[] = [];
  #judged: Judged[] = [];
  #end: Promise<Decision> | null = null;

  constructor(
    sequence: Sequence,
    tokenizer: Tokenizer,
    labels: GuardConfig["labels"],
    prefix: Prefix | Promise<Prefix>,
    { signal, overflow = "error", spare = () => null, policy, idleMs }: StreamOptions = {},
  ) {
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    if (idleMs) this.#idleTimer = setTimeout(() => this.#stopIdle(idleMs), idleMs).unref();
    this.#sequence = sequence;
    this.#tokenizer = tokenizer;
    this.#labels = labels;
    this.#decoder = new IncrementalDecoder(tokenizer);
    this.#signal = signal;
    this.#overflow = overflow;
    this.#spare = spare;
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
    if (!this.#tracker) return null;
    const violation = this.#promptRuling?.violation ?? this.#tracker.violation;
    const observed = [...(this.#promptRuling?.observed ?? []), ...this.#observed];
    const action = violation ? "block" : observed.length > 0 ? "observe" : "pass";
    return { action, violation, observed };
  }

  /** Whether it has not got a slot yet. */
  get waiting(): boolean {
    return this.#sequence.slot === null && this.#sequence.failure === null;
  }

  /** When it last had something to do: milliseconds of `performance.now()`. */
  get usedAt(): number {
    return this.#busy > 0 ? performance.now() : this.#usedAt;
  }

  /** How often the context was full and slid on (`overflow: "slide"`). */
  get slides(): number {
    return this.#slides;
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
    return this.#inTurn(() => this.#judge({ from: this.#fed.length, ids, provisional: 0 }));
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
    if (typeof chunk !== "string") {
      throw new InputError(
        "TEXT_INVALID",
        `pushText takes a string, not ${typeof chunk}. For token ids use push.`,
      );
    }
    this.#accept("text");
    return this.#inTurn(() => this.#encodeText(chunk));
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
      this.#prefixIds = encoded.ids;
      this.#prefixLength = encoded.ids.length;
      this.#feedPrefix(encoded, prompt.resolve, turns.resolve).catch(fail);
    };
    if (prefix instanceof Promise) {
      this.#refusePrompt = fail;
      this.#hold(prefix.then(begin, fail));
    } else begin(prefix);
    return { prompt: prompt.promise, turns: turns.promise };
  }

  async #feedPrefix(
    { ids, promptIndex, turns }: Prefix,
    tellPrompt: (verdict: Verdict | null) => void,
    tellTurns: (verdicts: readonly TurnVerdict[]) => void,
  ): Promise<void> {
    const verdicts: TurnVerdict[] = [];
    this.#busy++;
    const read: LogitsReader = (logits, index, position) => {
      const { role, empty } = turns[verdicts.length];
      const tokenId = ids[position];
      const verdict = {
        index: position,
        tokenId,
        text: this.#tokenizer.decode([tokenId]),
        ...judgePrompt(logits, index, this.#labels),
        provisional: false,
      };
      verdicts.push({ ...verdict, role, empty });
      if (position === promptIndex) tellPrompt(verdict);
      if (verdicts.length === turns.length) tellTurns(verdicts);
    };
    const ends = turns.map(({ end }) => end);
    await this.#sequence.feed(ids, read, 0, ends);
    this.#rest();
    tellPrompt(null);
    tellTurns(verdicts);
  }

  /** Begins a call's work once that of all calls before it has begun: at once, unless something is encoded in slices. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#encoding) return work();
    return new Promise((resolve, reject) => {
      this.#calls.push(() => void work().then(resolve, reject));
    });
  }

  /** Lets calls wait until something is encoded. */
  #hold(encoded: Promise<unknown>): void {
    this.#encoding = true;
    this.#busy++;
    const goOn = () => {
      this.#rest();
      this.#goOn();
    };
    encoded.then(goOn, goOn);
  }

  #goOn(): void {
    this.#encoding = false;
    while (!this.#encoding && this.#calls.length > 0) this.#calls.shift()?.();
  }

  #ruleBy(policy: Policy): void {
    this.#tracker = new RuleTracker(policy.response);
    const rule = (turns: readonly TurnVerdict[]) => {
      this.#promptRuling = rulePrompt(turns, policy);
    };
    // Where the prompt was not judged, neither is what comes after it.
    this.turns.then(rule).catch((error) => this.#stop(error));
  }

  async #encodeText(chunk: string): Promise<Verdict[]> {
    if (this.#sequence.failure) throw this.#sequence.failure;
    this.#encoder ??= new IncrementalEncoder(this.#tokenizer);
    const encoder = this.#encoder;
    if (chunk.length <= SLICE) return this.#judgeText(() => encoder.push(chunk));
    const encoded = inTurns(encoder.pushInSlices(chunk));
    const judged = encoded.then(
      (revision) => this.#judgeText(() => revision),
      (error) =>
        this.#judgeText(() => {
          throw error;
        }),
    );
    this.#hold(encoded);
    return judged;
  }

  /** @param encode says what more text did to the response's tokens */
  async #judgeText(encode: () => Revision): Promise<Verdict[]> {
    let revision: Revision;
    try {
      revision = encode();
      if (revision.provisional > MOST_UNSETTLED) throw unsettled();
    } catch (error) {
      this.#stop(error as GuardError);
      throw error;
    }
    return this.#judge({ ...revision, from: this.#encoderBase + revision.from });
  }

  async #judge({ from, ids, provisional }: Revision): Promise<Verdict[]> {
    const settled = from + ids.length - provisional;
    const verdicts: Verdict[] = [];
    this.#busy++;
    try {
      const fed = this.#feed(from, ids, (logits, step, index) => {
        const tokenId = ids[index - from];
        const judgement = judgeResponse(logits, step, this.#labels);
        this.#rewind(index);
        this.#tokenIds.push(tokenId);
        this.#judged.push({ risk: judgement.risk, category: judgement.category });
        const text = this.#decoder.push(tokenId);
        verdicts.push({ index, tokenId, text, ...judgement, provisional: index >= settled });
      });
      fed.catch(() => {});
      // Feeds that share a step end at the same moment, however many promises lie between.
      this.#judging = this.#judging.then(() => fed);
      await this.#judging;
    } catch (error) {
      // Going on would leave a hole in what was judged.
      this.#stop(error as GuardError);
      throw error;
    }
    this.#rest();
    this.#settled = settled;
    if (this.#tracker) this.#rule(this.#tracker, verdicts);
    return verdicts;
  }

  #rule(tracker: RuleTracker, verdicts: Verdict[]): void {
    for (const verdict of this.#settledVerdicts.take(verdicts, this.#settled)) {
      const finding = tracker.take(verdict);
      if (finding?.action === "observe") this.#observed.push(finding);
    }
  }

  /** Gives ids to the sequence from a response index on; `read` gets each token's response index. */
  async #feed(from: number, ids: readonly number[], read: LogitsReader): Promise<void> {
    this.#fed.length = from;
    for (const id of ids) this.#fed.push(id);
    const room = this.#sequence.limits.maxTokens - this.#prefixLength;
    const fits = from >= this.#windowStart && from + ids.length <= this.#windowStart + room;
    if (this.#overflow === "error") return this.#feedWindow(from, ids, read);
    if (fits) {
      this.#prepare(from, ids, room);
      return this.#feedWindow(from, ids, read);
    }
    const limit = this.#windowStart + room;
    if (from <= limit) this.#prepare(from, ids.slice(0, limit - from), room);
    const done: Promise<void>[] = [];
    const end = from + ids.length;
    for (let at = from; ; ) {
      if (at < this.#windowStart || at >= this.#windowStart + room) done.push(this.#slide(at, room));
      const to = Math.min(end, this.#windowStart + room);
      done.push(this.#feedWindow(at, ids.slice(at - from, to - from), read));
      if (to === end) {
        await Promise.all(done);
        return;
      }
      at = to;
    }
  }

  #feedWindow(from: number, ids: readonly number[], read: LogitsReader): Promise<void> {
    const offset = this.#prefixLength - this.#windowStart;
    const sequence = this.#sequence;
    const reader: LogitsReader = (logits, step, position, row) => read(logits, step, position - offset, row);
    return this.#afterHandover(() => sequence.feed(ids, reader, from + offset));
  }

  /** Feeds in the order of the calls, also those that wait for another sequence to end. */
  #afterHandover(feed: () => Promise<void>): Promise<void> {
    if (!this.#handover) return feed();
    let fed: Promise<void>;
    const begun = this.#handover.then(() => {
      if (this.#handover === begun) this.#handover = null;
      fed = feed();
      fed.catch(() => {});
    });
    this.#handover = begun;
    return begun.then(() => fed);
  }

  /** Lets a spare slot read along while there is still room, so that sliding costs no pause. */
  #prepare(from: number, ids: readonly number[], room: number): void {
    const successor = this.#successor;
    if (successor && !successor.sequence.failure && from >= successor.start) {
      this.#readAlong(successor, ids, this.#prefixLength + from - successor.start);
      return;
    }
    this.#dismiss();
    if (this.#fed.length - this.#windowStart < PREPARE_AT * room) return;
    const sequence = this.#spare();
    if (!sequence) return;
    sequence.yields = true;
    this.#successor = { sequence, start: this.#windowStart + Math.ceil(room / 2) };
    this.#readAlong(
      this.#successor,
      [...this.#prefixIds, ...this.#fed.slice(this.#successor.start, this.#windowStart + room)],
      0,
    );
  }

  /** Where that fails, there is no successor when its time comes. */
  #readAlong({ sequence }: { sequence: Sequence }, ids: readonly number[], at: number): void {
    sequence.feed(ids, () => {}, at, []).catch(() => {});
  }

  #dismiss(): void {
    this.#successor?.sequence.close(new ClosedError("STREAM_CLOSED", "The sequence is not needed."));
    this.#successor = null;
  }

  /** Makes room before a response index: the prompt stays, and of the response the newest half of what fits. */
  #slide(at: number, room: number): Promise<void> {
    this.#slides++;
    const successor = this.#successor;
    const next = at - Math.floor(room / 2);
    if (successor?.start === next && !successor.sequence.failure) {
      successor.sequence.yields = false;
      const old = this.#sequence;
      // Verdicts come in order: those under way must not be overtaken by another sequence.
      const ended = this.#afterHandover(() => old.feed([], () => {}));
      const retire = () => {
        old.close(new ClosedError("STREAM_CLOSED", "Another sequence took over."));
        this.#retiring.delete(old);
      };
      this.#retiring.add(old);
      ended.then(retire, retire);
      this.#handover = ended;
      this.#successor = null;
      this.#sequence = successor.sequence;
      this.#windowStart = next;
      return ended;
    }
    this.#dismiss();
    this.#windowStart = Math.max(0, next);
    const sequence = this.#sequence;
    const kept = this.#fed.slice(this.#windowStart, at);
    return this.#afterHandover(() => sequence.feed(kept, () => {}, this.#prefixLength));
  }

  #flush(): Promise<Verdict[]> {
    return this.#inTurn(() => this.#settleText());
  }

  async #settleText(): Promise<Verdict[]> {
    if (this.#sequence.failure) throw this.#sequence.failure;
    if (!this.#encoder) return this.#judge({ from: this.#fed.length, ids: [], provisional: 0 });
    const encoder = this.#encoder;
    const judged = this.#judgeText(() => encoder.end());
    this.#encoder = null;
    this.#encoderBase = this.#fed.length;
    const verdicts = await judged;
    this.#rewind(this.#fed.length);
    return verdicts;
  }

  async #finish(): Promise<Decision> {
    await this.#flush();
    if (this.#judged.length === 0) {
      const error = new InputError(
        "EMPTY_RESPONSE",
        "The response holds no token, so there is nothing to judge. To judge a prompt alone, await stream.prompt and close the stream.",
      );
      this.#stop(error);
      throw error;
    }
    const safe = this.#labels.responseRisk.find((label) => severityOf(label) === "safe") as string;
    const decision = decide(this.#judged, safe);
    this.#stop(new ClosedError("STREAM_ENDED", "The stream has ended. Open another with guard.stream()."));
    return decision;
  }

  #accept(input: "ids" | "text"): void {
    if (this.#sequence.failure) throw this.#sequence.failure;
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

  /** Forgets the tokens from `length` on. */
  #rewind(length: number): void {
    if (length >= this.#tokenIds.length) return;
    this.#tokenIds.length = length;
    this.#judged.length = length;
    this.#decoder = new IncrementalDecoder(this.#tokenizer);
    for (const id of this.#tokenIds.slice(-LONGEST_CHARACTER)) this.#decoder.push(id);
  }

  #abort = (): void => {
    const { reason } = this.#signal as AbortSignal;
    this.#stop(new ClosedError("STREAM_ABORTED", "The stream was aborted by its signal.", { cause: reason }));
  };

  /** A feed is done. */
  #rest(): void {
    this.#busy--;
    this.#usedAt = performance.now();
    this.#idleTimer?.refresh();
  }

  #stopIdle(idleMs: number): void {
    if (this.#busy > 0) this.#idleTimer?.refresh();
    else {
      this.#stop(
        new ClosedError(
          "STREAM_IDLE",
          `Nothing was pushed for ${idleMs} ms, so the stream was closed and its slot is free. Open another with ` +
            "guard.stream(), or load the guard with a longer idleMs.",
        ),
      );
    }
  }

  #stop(reason: GuardError): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#signal?.removeEventListener("abort", this.#abort);
    clearTimeout(this.#idleTimer);
    this.#resolveClosed(this.#sequence.failure ?? reason);
    for (const sequence of [...this.#retiring, this.#successor?.sequence, this.#sequence])
      sequence?.close(reason);
    const refuse = this.#refusePrompt;
    this.#refusePrompt = null;
    refuse?.(reason);
    if (this.#encoding) this.#goOn();
  }
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
