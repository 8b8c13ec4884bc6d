import { ClosedError, DeviceError, GuardError, ModelError, NumericError, QueueFullError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import type { Policy } from "../moderation/policy.js";
import { type Finding, RuleTracker, type Ruling, rulePrompt } from "../moderation/ruling.js";
import { SettledVerdicts } from "../moderation/settled-verdicts.js";
import type { TurnVerdict, Verdict } from "../moderation/verdict.js";
import { aBoolean, aFunction, aSignal, type OptionCheck, oneOf } from "../options.js";
import { Condition } from "./condition.js";
import { type HoldBuffer, IdsHoldBuffer, type Part, TextHoldBuffer, type TextPart } from "./hold-buffer.js";
import { type Source, SourceReader } from "./source.js";
import { ModerationViolation, type Span } from "./violation.js";

/**
 * hold-back: nothing leaves before its verdict stands and no flag can reach it any more.
 * stream-first: text leaves at once and is judged beside; a flag stops what follows.
 */
export type Mode = "hold-back" | "stream-first";

/** What a gate needs of a GuardStream. */
export interface VerdictStream {
  readonly turns: Promise<readonly TurnVerdict[]>;
  /** Resolves with why it ended, once it has. */
  readonly closed: Promise<GuardError>;
  readonly settled: number;
  readonly slides: number;
  push(ids: readonly number[]): Promise<Verdict[]>;
  pushText(text: string): Promise<Verdict[]>;
  flush(): Promise<Verdict[]>;
  end(): Promise<Decision>;
  close(): void;
}

export interface GateOptions {
  policy: Policy;
  /** Default "hold-back". */
  mode?: Mode;
  /** Asks the source for nothing before the prompt has passed. Default false: both at once. */
  promptFirst?: boolean;
  /** Stops everything when it fires. */
  signal?: AbortSignal;
  /** Called with what the policy says to observe. */
  onObserve?: (finding: Finding) => void;
  /**
   * Called once when the guard has failed and the policy (`failOpen`) lets the rest pass unjudged, with what it failed
   * of. Where it throws, the rest does not pass.
   */
  onFailure?: (error: GuardError) => void;
}

export const GATE_OPTIONS = {
  mode: oneOf("hold-back", "stream-first"),
  promptFirst: aBoolean,
  signal: aSignal,
  onObserve: aFunction,
  onFailure: aFunction,
} satisfies Record<keyof Omit<GateOptions, "policy">, OptionCheck>;

/** Where a gate stands. Amounts are in UTF-16 units of text, or in ids. */
export interface GateStats {
  /** Taken from the source. */
  received: number;
  /** Of that, judged for good. */
  judged: number;
  /** Of that, handed to the reader. */
  released: number;
  /** Taken from the source and not given to the guard yet, or still with it: how far the guard is behind. */
  lag: number;
  peakLag: number;
  /** Tokens with a verdict that stands. */
  tokens: number;
  /** How often the guard's context slid on. */
  slides: number;
  /** Milliseconds from the start to the prompt's verdict; null before it. */
  promptMs: number | null;
  /** Milliseconds that the source had to wait because the guard was behind. */
  waitedForGuardMs: number;
}

/** How a gate ended. */
export interface Outcome {
  /** complete: all passed. flagged: the policy stopped it. failed: guard or source did. cancelled: the reader left. */
  end: "complete" | "flagged" | "failed" | "cancelled";
  violation: ModerationViolation | null;
  observed: Finding[];
  /** What the guard, or the source, failed of. With `failOpen` also where the text passed all the same. */
  error: unknown;
  /** Whether the guard failed and the policy (`failOpen`) let text pass unjudged; `error` is what it failed of. */
  failedOpen: boolean;
  /** The report's own reading of the whole response; null where there was no text, or not all of it was judged. */
  decision: Decision | null;
  stats: GateStats;
}

/** What may be under way (unjudged, or judged and unread) before the source has to wait: UTF-16 units, or ids. */
const HIGH_WATER = 16_384;
/** What an item counts for in that. */
const ITEM_WEIGHT = 64;
/** Most that is judged at once, so that a flag is not found long after it could be. */
const PUSH_TEXT = 1024;
const PUSH_IDS = 256;
const HALF_AT_END = /[\ud800-\udbff]$/;
/** Items that may wait behind text whose fate is open. */
const MAX_HELD_ITEMS = 8192;

/**
 * A guard between a source and its reader. Reading, judging and handing on run beside each other; buffers between them
 * are bounded, so that the slowest sets the pace. It starts with the first `next()` or with `start()`, and from then on
 * holds a slot of the guard until it ends or is returned.
 */
export class Gate<T> implements AsyncIterableIterator<Part<T>> {
  readonly #open: () => VerdictStream;
  readonly #policy: Policy;
  readonly #holdBack: boolean;
  readonly #options: GateOptions;
  readonly #source: SourceReader<Part<T>>;
  readonly #changed = new Condition();
  readonly #tracker: RuleTracker;
  readonly #observed: Finding[] = [];
  readonly #incoming: Part<T>[] = [];
  readonly #outgoing: Part<T>[] = [];
  #held: HoldBuffer<T> = new TextHoldBuffer<T>();
  #heldItems = 0;
  #half: TextPart<T> | null = null;
  readonly #verdicts = new SettledVerdicts();
  /** Offset up to which no flag can reach any more, and where the row of tokens that may become one begins. */
  #clear = 0;
  #unjudged = 0;
  #unread = 0;
  #judge: VerdictStream | null = null;
  #judgedText = false;
  /** The guard has closed the stream, whatever it was doing. */
  #judgeClosed: GuardError | null = null;
  #startedAt: number | null = null;
  #promptPassed = false;
  /** The guard has failed and the policy lets everything through. */
  #unguarded = false;
  #sourceDone = false;
  #sourceError: { error: unknown } | null = null;
  #ended = false;
  #thrown: { error: unknown } | null = null;
  #resolvePrompt!: (ruling: Ruling | null) => void;
  #resolveDone!: (outcome: Outcome) => void;
  readonly #stats: GateStats = {
    received: 0,
    judged: 0,
    released: 0,
    lag: 0,
    peakLag: 0,
    tokens: 0,
    slides: 0,
    promptMs: null,
    waitedForGuardMs: 0,
  };

  /** The policy's ruling on the prompt; null where the gate ended before there was one. Never rejects. */
  readonly prompt: Promise<Ruling | null>;
  /** How it ended. Never rejects. */
  readonly done: Promise<Outcome>;

  /** @param open opens the guard's stream, when the gate starts */
  constructor(source: Source<Part<T>>, open: () => VerdictStream, options: GateOptions) {
    this.#source = new SourceReader(source);
    this.#open = open;
    this.#options = options;
    this.#policy = options.policy;
    this.#holdBack = options.mode !== "stream-first";
    this.#tracker = new RuleTracker(options.policy.response);
    this.prompt = new Promise((resolve) => {
      this.#resolvePrompt = resolve;
    });
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  get stats(): Readonly<GateStats> {
    return { ...this.#stats, lag: this.#unjudged };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Begins to judge the prompt and to read the source. Idempotent. */
  start(): void {
    if (this.#startedAt !== null || this.#ended) return;
    this.#startedAt = performance.now();
    const { signal } = this.#options;
    if (signal?.aborted) this.#abort();
    else {
      signal?.addEventListener("abort", this.#abort);
      void this.#run();
    }
  }

  /** @throws {ModerationViolation} once what passed has been read; or what the guard or the source failed of */
  async next(): Promise<IteratorResult<Part<T>, undefined>> {
    this.start();
    for (;;) {
      const part = this.#outgoing.shift();
      if (part) {
        this.#unread -= weight(part);
        this.#stats.released += length(part);
        this.#changed.notify();
        return { done: false, value: part };
      }
      if (this.#ended) break;
      await this.#changed.until(() => this.#outgoing.length > 0 || this.#ended);
    }
    const thrown = this.#thrown;
    this.#thrown = null;
    if (thrown) throw thrown.error;
    return { done: true, value: undefined };
  }

  /** Stops everything: the source is told, the guard's slot is free. Idempotent. */
  async return(): Promise<IteratorResult<Part<T>, undefined>> {
    this.#outgoing.length = 0;
    this.#finish("cancelled");
    return { done: true, value: undefined };
  }

  #abort = (): void => {
    const cause = this.#options.signal?.reason;
    const error = new ClosedError("STREAM_ABORTED", "The stream was aborted by its signal.", { cause });
    this.#outgoing.length = 0;
    this.#finish("cancelled", { error });
  };

  async #run(): Promise<void> {
    try {
      if (!this.#options.promptFirst) void this.#read();
      await this.#guarded();
    } catch (error) {
      if (this.#ended) return;
      if (this.#policy.failOpen && isGuardsFailure(error)) await this.#passUnguarded(error);
      else {
        this.#dropUnjudged();
        this.#finish("failed", { error });
      }
    }
  }

  async #guarded(): Promise<void> {
    const judge = this.#open();
    this.#judge = judge;
    void judge.closed.then((reason) => {
      this.#judgeClosed = reason;
      this.#changed.notify();
    });
    const ruling = rulePrompt(await judge.turns, this.#policy);
    if (this.#ended) return;
    this.#stats.promptMs = performance.now() - (this.#startedAt as number);
    for (const finding of ruling.observed) this.#observe(finding);
    this.#resolvePrompt(ruling);
    if (ruling.violation) this.#flag(ruling.violation, null);
    if (this.#ended) return;
    this.#promptPassed = true;
    if (!this.#holdBack) for (const part of this.#incoming) this.#hand(part);
    this.#changed.notify();
    if (this.#options.promptFirst) void this.#read();

    while (await this.#arrival()) {
      const boundary = await this.#judgeIncoming(judge);
      if (this.#ended) return;
      if (boundary && this.#judgedText) this.#settle(await judge.flush(), judge.settled);
      if (this.#ended) return;
      this.#releaseClear();
    }
    if (this.#ended) return;
    if (this.#judgedText) this.#settle(await judge.flush(), judge.settled);
    if (this.#ended) return;
    if (!this.#held.complete) {
      throw new GuardError(
        "INTERNAL",
        "Text is left that no token stands for. Please report the text as a bug.",
      );
    }
    this.#release(this.#held.releaseAll());
    const decision = this.#stats.tokens > 0 ? await judge.end() : null;
    this.#conclude({ decision });
  }

  /** Waits for something to judge. False when all has come, or the gate has ended. */
  async #arrival(): Promise<boolean> {
    await this.#changed.until(
      () => this.#incoming.length > 0 || this.#sourceDone || this.#ended || this.#judgeClosed !== null,
    );
    if (!this.#ended && this.#judgeClosed) throw this.#judgeClosed;
    return !this.#ended && this.#incoming.length > 0;
  }

  /** Judges what has come, up to the first boundary or a bound. Says whether it stopped at a boundary. */
  async #judgeIncoming(judge: VerdictStream): Promise<boolean> {
    let text = "";
    const ids: number[] = [];
    let boundary = false;
    let taken = 0;
    while (this.#incoming.length > 0 && !boundary && text.length < PUSH_TEXT && ids.length < PUSH_IDS) {
      const part = this.#takeIncoming(PUSH_TEXT - text.length, PUSH_IDS - ids.length);
      taken += weight(part);
      if (part.kind === "ids" && !(this.#held instanceof IdsHoldBuffer)) this.#held = new IdsHoldBuffer<T>();
      this.#held.append(part);
      if (part.kind === "text") text += part.text;
      else if (part.kind === "ids") ids.push(...part.ids);
      else {
        this.#heldItems++;
        boundary = part.boundary === true;
      }
    }
    if (this.#heldItems > MAX_HELD_ITEMS) {
      throw new GuardError("HELD_TOO_MUCH", "Too many events wait behind text whose verdict is still open.");
    }
    if (text !== "") {
      this.#judgedText = true;
      this.#settle(await judge.pushText(text), judge.settled);
    } else if (ids.length > 0) {
      this.#settle(await judge.push(ids), judge.settled);
    }
    this.#unjudged -= taken;
    this.#changed.notify();
    return boundary;
  }

  /** The next part; of a long one only so much. */
  #takeIncoming(mostText: number, mostIds: number): Part<T> {
    const part = this.#incoming[0];
    if (part.kind === "text" && part.text.length > mostText) {
      this.#incoming[0] = { ...part, text: part.text.slice(mostText) };
      return { ...part, text: part.text.slice(0, mostText) };
    }
    if (part.kind === "ids" && part.ids.length > mostIds) {
      this.#incoming[0] = { ...part, ids: part.ids.slice(mostIds) };
      return { ...part, ids: part.ids.slice(0, mostIds) };
    }
    this.#incoming.shift();
    return part;
  }

  /** Takes new verdicts; those that stand go through the rules. */
  #settle(verdicts: Verdict[], settled: number): void {
    if (this.#ended) return;
    const stats = this.#stats;
    for (const verdict of this.#verdicts.take(verdicts, settled)) {
      const before = this.#held.judged;
      const after = this.#held.judge(verdict);
      stats.tokens++;
      // A row of tokens goes on across what only the guard reads.
      const finding = this.#held.isSilent(before, after) ? null : this.#tracker.take(verdict);
      if (this.#tracker.pending === 0) this.#clear = after;
      if (finding?.action === "observe") this.#observe(finding);
      else if (finding) {
        this.#releaseClear();
        stats.judged = after;
        this.#flag(finding, this.#held.span(this.#clear, after));
        break;
      }
    }
    stats.judged = this.#held.judged;
    stats.slides = this.#judge?.slides ?? 0;
  }

  #releaseClear(): void {
    this.#release(this.#held.release(this.#clear));
  }

  #release(parts: Part<T>[]): void {
    for (const part of parts) {
      if (part.kind === "item") this.#heldItems--;
      if (this.#holdBack) this.#hand(part);
    }
  }

  #hand(part: Part<T>): void {
    if (part.kind !== "text") this.#handHalf();
    else if (part.silent || part.again) return;
    else part = this.#wholeCharacters(part);
    if (part.kind !== "text" || part.text !== "") this.#enqueue(part);
  }

  /** Half a character, which a source may end a chunk with, goes with its other half: readers encode each text alone. */
  #wholeCharacters(part: TextPart<T>): TextPart<T> {
    if (this.#half && this.#half.tag !== part.tag) this.#handHalf();
    const text = (this.#half?.text ?? "") + part.text;
    const whole = HALF_AT_END.test(text) ? text.length - 1 : text.length;
    this.#half = whole < text.length ? { ...part, text: text.slice(whole) } : null;
    return text.length === part.text.length && !this.#half ? part : { ...part, text: text.slice(0, whole) };
  }

  #handHalf(): void {
    const half = this.#half;
    this.#half = null;
    if (half) this.#enqueue(half);
  }

  #enqueue(part: Part<T>): void {
    this.#outgoing.push(part);
    this.#unread += weight(part);
    this.#changed.notify();
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        await this.#room();
        if (this.#ended) return;
        const { done, value } = await this.#source.next();
        if (this.#ended) return;
        if (done) break;
        this.#receive(value as Part<T>);
      }
    } catch (error) {
      this.#sourceError = { error };
    }
    this.#sourceDone = true;
    this.#changed.notify();
  }

  #receive(part: Part<T>): void {
    this.#stats.received += length(part);
    if (this.#unguarded) {
      this.#hand(part);
      return;
    }
    this.#incoming.push(part);
    this.#unjudged += weight(part);
    this.#stats.peakLag = Math.max(this.#stats.peakLag, this.#unjudged);
    if (!this.#holdBack && this.#promptPassed) this.#hand(part);
    this.#changed.notify();
  }

  /** Waits until the source may give more. */
  async #room(): Promise<void> {
    const full = () => Math.max(this.#unjudged, this.#unread) >= HIGH_WATER;
    while (!this.#ended && full()) {
      const behind = this.#unjudged >= HIGH_WATER;
      const since = performance.now();
      await this.#changed.until(() => this.#ended || !full() || this.#unjudged >= HIGH_WATER !== behind);
      if (behind) this.#stats.waitedForGuardMs += performance.now() - since;
    }
  }

  async #passUnguarded(error: GuardError): Promise<void> {
    this.#judge?.close();
    try {
      this.#options.onFailure?.(error);
    } catch (thrown) {
      this.#dropUnjudged();
      this.#finish("failed", { error: thrown });
    }
    if (this.#ended) return;
    this.#unguarded = true;
    this.#resolvePrompt({ action: "pass", violation: null, observed: [] });
    // With stream-first, what came after the prompt passed is out already.
    const out = !this.#holdBack && this.#promptPassed;
    this.#release(this.#held.releaseAll());
    for (const part of this.#incoming.splice(0)) if (!out) this.#hand(part);
    this.#unjudged = 0;
    if (this.#options.promptFirst && !this.#promptPassed) void this.#read();
    this.#changed.notify();
    await this.#changed.until(() => this.#sourceDone || this.#ended);
    this.#conclude({ failure: error });
  }

  #observe(finding: Finding): void {
    this.#observed.push(finding);
    try {
      this.#options.onObserve?.(finding);
    } catch (error) {
      this.#finish("failed", { error });
    }
  }

  #flag(finding: Finding, span: Span | null): void {
    this.#dropUnjudged();
    const violation = new ModerationViolation(finding, span);
    this.#finish("flagged", { error: violation, violation });
  }

  /** With stream-first what nobody has read yet was not judged either. */
  #dropUnjudged(): void {
    if (this.#holdBack) return;
    this.#outgoing.length = 0;
    this.#half = null;
  }

  /** The source is at its end. */
  #conclude({ decision = null, failure }: { decision?: Decision | null; failure?: unknown }): void {
    if (this.#sourceError) this.#finish("failed", { ...this.#sourceError, decision });
    else this.#finish("complete", { decision, failure });
  }

  #finish(
    end: Outcome["end"],
    result: {
      /** Thrown to the reader. */
      error?: unknown;
      violation?: ModerationViolation;
      decision?: Decision | null;
      failure?: unknown;
    } = {},
  ): void {
    if (this.#ended) return;
    this.#ended = true;
    if (end === "complete" || end === "failed") this.#handHalf();
    if ("error" in result) this.#thrown = { error: result.error };
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#judge?.close();
    if (end !== "complete")
      this.#source.cancel(result.error ?? new ClosedError("STREAM_CLOSED", "Nobody reads on."));
    this.#incoming.length = 0;
    this.#resolvePrompt(null);
    this.#resolveDone({
      end,
      violation: result.violation ?? null,
      observed: this.#observed,
      error: result.violation ? null : (result.error ?? result.failure ?? null),
      failedOpen: this.#unguarded,
      decision: result.decision ?? null,
      stats: this.#lastStats(),
    });
    this.#changed.notify();
  }

  /** The figures at the end: what has passed is still handed to the reader. */
  #lastStats(): GateStats {
    const passed = this.#outgoing.reduce((sum, part) => sum + length(part), 0);
    return { ...this.stats, released: this.#stats.released + passed };
  }
}

/**
 * What may let text pass where the policy fails open: that the guard cannot work, or has no place. Nothing that a
 * prompt, an answer or a reader can bring about is among these, nor what nobody has thought of.
 */
function isGuardsFailure(error: unknown): error is GuardError {
  return (
    error instanceof QueueFullError ||
    error instanceof NumericError ||
    error instanceof DeviceError ||
    error instanceof ModelError ||
    (error instanceof ClosedError && error.code === "GUARD_CLOSED")
  );
}

/** In UTF-16 units, or ids. */
function length<T>(part: Part<T>): number {
  return part.kind === "text" ? part.text.length : part.kind === "ids" ? part.ids.length : 0;
}

function weight<T>(part: Part<T>): number {
  return part.kind === "item" ? ITEM_WEIGHT : length(part);
}
