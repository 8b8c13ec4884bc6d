import { ClosedError, DeviceError, GuardError, ModelError, NumericError, QueueFullError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import { Reviewer } from "../moderation/reviewer.js";
import { type Finding, type Ruling, rulePrompt } from "../moderation/ruling.js";
import type { Verdict } from "../moderation/verdict.js";
import { Batches } from "./batches.js";
import { Condition } from "./condition.js";
import {
  checkMode,
  type GateOptions,
  type GateStats,
  type Mode,
  type Outcome,
  type PartGate,
  type VerdictStream,
} from "./gate-options.js";
import { lengthOf, type Part } from "./parts.js";
import { Passage } from "./passage.js";
import { Scout, type ScoutOptions } from "./scout.js";
import { type Source, SourceReader } from "./source.js";
import { type Ending, type FlagStrategy, stop } from "./strategy.js";
import { ModerationViolation, type Span } from "./violation.js";

export * from "./gate-options.js";

/** What may be under way (unjudged, or judged and unread) before the source has to wait: UTF-16 units, or ids. */
const HIGH_WATER = 16_384;

/** What differs where a gate is one of several, each of which goes on from what those before it released. */
export interface Continuance {
  /** How many of the newest tokens are held back, whatever their verdicts. */
  buffer: number;
  /** How many gates there were before. */
  regenerations: number;
  /** UTF-16 units that the reader had before. */
  units: number;
}

const ALONE: Continuance = { buffer: 0, regenerations: 0, units: 0 };

/**
 * A guard between a source and its reader: a pump, which moves parts, and a reviewer, who says how far. Reading, judging
 * and handing on run beside each other; buffers between them are bounded, so that the slowest sets the pace. It starts
 * with the first `next()` or with `start()`, and from then on holds a slot of the guard until it ends or is returned.
 */
export class Gate<T> implements PartGate<T> {
  readonly #open: () => VerdictStream;
  readonly #options: GateOptions;
  readonly #mode: Mode;
  readonly #strategy: FlagStrategy<T>;
  readonly #continues: Continuance;
  readonly #source: SourceReader<Part<T>>;
  readonly #passage = new Passage<T>();
  readonly #reviewer: Reviewer;
  readonly #changed = new Condition();
  /** Fires when the gate has ended: after an await, whoever works for it looks whether it has. */
  readonly #over = new AbortController();
  #stream: VerdictStream | null = null;
  #batches: Batches | null = null;
  readonly #scoutOptions: ScoutOptions | null;
  #scout: Scout | null = null;
  /** The scout suspects something on which the guard has not ruled yet. */
  #suspicion = false;
  /** Why the guard has closed the stream, whatever it was doing. */
  #streamClosed: GuardError | null = null;
  #startedAt: number | null = null;
  #promptPassed = false;
  /** The guard has failed and the policy lets everything through. */
  #unguarded = false;
  /** The source is at its end, or failed. */
  #sourceEnd: { error?: unknown } | null = null;
  /** What the reader gets once all that passed is read. */
  readonly #ending: { parts: Part<T>[]; thrown: { error: unknown } | null } = { parts: [], thrown: null };
  readonly #observed: Finding[] = [];
  #resolvePrompt!: (ruling: Ruling | null) => void;
  #resolveDone!: (outcome: Outcome) => void;
  readonly #stats: GateStats = {
    received: 0,
    judged: 0,
    released: 0,
    lag: 0,
    peakLag: 0,
    tokens: 0,
    regenerations: 0,
    dropped: 0,
    slides: 0,
    suspicions: 0,
    promptTokens: 0,
    reusedTokens: 0,
    promptMs: null,
    waitedForGuardMs: 0,
  };

  /** The policy's ruling on the prompt; null where the gate ended before there was one. Never rejects. */
  readonly prompt: Promise<Ruling | null>;
  /** How it ended. Never rejects. */
  readonly done: Promise<Outcome>;

  /**
   * @param open opens the guard's stream, when the gate starts
   * @param more.strategy what a flag does. Default: the violation is thrown
   * @param more.scout reads ahead. Default: nobody does
   * @param more.continues it goes on where another gate ended. Default: it stands alone
   */
  constructor(
    source: Source<Part<T>>,
    open: () => VerdictStream,
    options: GateOptions,
    { strategy = stop, scout = null, continues = ALONE }: GateParts<T> = {},
  ) {
    this.#source = new SourceReader(source);
    this.#open = open;
    this.#options = options;
    this.#mode = options.mode ?? "hold-back";
    checkMode(options.mode, scout);
    this.#strategy = strategy;
    this.#continues = continues;
    this.#scoutOptions = scout;
    this.#reviewer = new Reviewer(options.policy.response);
    this.prompt = new Promise((resolve) => {
      this.#resolvePrompt = resolve;
    });
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  get stats(): Readonly<GateStats> {
    return { ...this.#stats, lag: this.#passage.lag };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Begins to judge the prompt and to read the source. Idempotent. */
  start(): void {
    if (this.#startedAt !== null || this.#ended) return;
    this.#startedAt = performance.now();
    const { reading } = this.#options.policy.response;
    if (this.#scoutOptions) this.#scout = new Scout(this.#scoutOptions, reading);
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
      const part = this.#passage.read();
      if (part) {
        this.#stats.released += lengthOf(part);
        this.#changed.notify();
        return { done: false, value: part };
      }
      if (this.#ended) break;
      await this.#changed.until(() => this.#passage.isReadable || this.#ended);
    }
    const { parts, thrown } = this.#ending;
    const instead = parts.shift();
    if (instead) return { done: false, value: instead };
    this.#ending.thrown = null;
    if (thrown) throw thrown.error;
    return { done: true, value: undefined };
  }

  /** Stops everything: the source is told, the guard's slot is free. Idempotent. */
  async return(): Promise<IteratorResult<Part<T>, undefined>> {
    this.#passage.dropUnread();
    this.#finish("cancelled");
    return { done: true, value: undefined };
  }

  #abort = (): void => {
    const cause = this.#options.signal?.reason;
    const error = new ClosedError("STREAM_ABORTED", "The stream was aborted by its signal.", { cause });
    this.#passage.dropUnread();
    this.#finish("cancelled", { error, ending: { error } });
  };

  get #ended(): boolean {
    return this.#over.signal.aborted;
  }

  async #run(): Promise<void> {
    try {
      await this.#guarded().catch((error) => this.#passUnguarded(error));
    } catch (error) {
      this.#dropUnjudged();
      this.#finish("failed", { error, ending: { error } });
    }
  }

  async #guarded(): Promise<void> {
    if (!this.#options.promptFirst) void this.#read();
    const stream = this.#openStream();
    const batches = this.#openBatches(stream);
    await this.#judgePrompt(stream);
    if (this.#options.promptFirst) void this.#read();
    while (await this.#arrival(batches)) {
      const { text, ids, boundary } = this.#passage.take();
      const now = boundary || this.#suspicion || this.#passage.lag >= HIGH_WATER;
      await this.#review(stream, batches.push(text, ids, now));
      if (boundary) await this.#settle(stream, batches);
      this.#releaseClear();
      if (this.#isAllClear) this.#suspicion = false;
      if (batches.waiting === 0) this.#passage.settleLag();
      this.#changed.notify();
    }
    await this.#settle(stream, batches);
    if (!this.#passage.isComplete) {
      throw new GuardError(
        "INTERNAL",
        "Text is left that no token stands for. Please report the text as a bug.",
      );
    }
    this.#passage.releaseAll();
    this.#conclude({ decision: this.#stats.tokens > 0 ? await this.#live(stream.end()) : null });
  }

  #openStream(): VerdictStream {
    const stream = this.#open();
    this.#stream = stream;
    void stream.closed.then((reason) => {
      this.#streamClosed = reason;
      this.#changed.notify();
    });
    return stream;
  }

  #openBatches(stream: VerdictStream): Batches {
    const batch = this.#options.batch ?? (this.#scoutOptions ? {} : undefined);
    this.#batches = new Batches(stream, batch, () => this.#changed.notify());
    return this.#batches;
  }

  async #judgePrompt(stream: VerdictStream): Promise<void> {
    const ruling = rulePrompt(await this.#live(stream.turns), this.#options.policy);
    this.#stats.promptMs = performance.now() - (this.#startedAt as number);
    this.#stats.promptTokens = stream.promptTokens;
    this.#stats.reusedTokens = stream.reusedTokens;
    this.#observe(ruling.observed);
    this.#resolvePrompt(ruling);
    if (ruling.violation) this.#flag(ruling.violation, null);
    this.#promptPassed = true;
    if (this.#leavesAtOnce) this.#passage.passIncomingAhead();
    this.#changed.notify();
  }

  /** Waits for something to judge. False when all has come. */
  async #arrival(batches: Batches): Promise<boolean> {
    const something = () => this.#passage.hasIncoming || batches.isDue;
    await this.#until(() => something() || this.#sourceEnd !== null || this.#streamClosed !== null);
    if (this.#streamClosed) throw this.#streamClosed;
    return something();
  }

  /** Settles what was judged so far, as if the text ended here. */
  async #settle(stream: VerdictStream, batches: Batches): Promise<void> {
    if (this.#passage.hasText || batches.waiting > 0) await this.#review(stream, batches.settle());
  }

  /** Lets the reviewer rule on new verdicts. */
  async #review(stream: VerdictStream, judging: Promise<Verdict[]>): Promise<void> {
    const verdicts = await this.#live(judging);
    const { flag, observed } = this.#reviewer.review(verdicts, stream.settled, (verdict) => {
      this.#stats.tokens++;
      return this.#passage.judge(verdict);
    });
    this.#stats.judged = this.#passage.judged;
    this.#stats.slides = stream.slides;
    this.#observe(observed);
    if (!flag) return;
    this.#releaseClear();
    this.#flag(flag, this.#passage.span());
  }

  #releaseClear(): void {
    const { clear, likelyClear } = this.#reviewer;
    const { buffer } = this.#continues;
    const ahead = this.#options.release === "judged" || this.#mode === "scout-first" ? likelyClear : [];
    this.#passage.release(buffer > 0 ? this.#passage.allBut(buffer, clear) : clear, ahead);
    this.#changed.notify();
  }

  /** Whether the guard has ruled on all that came, and takes none of it for harmful. */
  get #isAllClear(): boolean {
    // What leaves at once must not overtake what is still held.
    if (this.#mode === "scout-first") return this.#passage.isEmpty;
    return !this.#passage.hasIncoming && this.#reviewer.isLikelyClear;
  }

  /** Whether what comes leaves before the guard has judged it. */
  get #leavesAtOnce(): boolean {
    return this.#mode === "stream-first" || (this.#mode === "scout-first" && !this.#suspicion);
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        await this.#room();
        const { done, value } = await this.#live(this.#source.next());
        if (done) break;
        const part = value as Part<T>;
        const scout = this.#unguarded ? null : this.#scout;
        this.#receive(part, scout !== null && (await this.#live(scout.suspects(part))));
      }
      this.#sourceEnd = {};
    } catch (error) {
      this.#sourceEnd = { error };
    }
    this.#changed.notify();
  }

  #receive(part: Part<T>, suspicious: boolean): void {
    this.#stats.received += lengthOf(part);
    if (suspicious) this.#stats.suspicions++;
    this.#suspicion ||= suspicious;
    if (this.#unguarded) this.#passage.pass(part);
    else {
      this.#passage.receive(part);
      this.#stats.peakLag = Math.max(this.#stats.peakLag, this.#passage.lag);
      if (this.#promptPassed && this.#leavesAtOnce) this.#passage.passAhead(part);
    }
    this.#changed.notify();
  }

  /** Waits until the source may give more. */
  async #room(): Promise<void> {
    while (this.#passage.lag >= HIGH_WATER || this.#passage.unread >= HIGH_WATER) {
      const [behind, since] = [this.#passage.lag >= HIGH_WATER, performance.now()];
      await this.#until(
        () => this.#passage.lag >= HIGH_WATER !== behind || (!behind && this.#passage.unread < HIGH_WATER),
      );
      if (behind) this.#stats.waitedForGuardMs += performance.now() - since;
    }
  }

  /** Where the policy says so, text passes unjudged once the guard has failed. @throws what it failed of */
  async #passUnguarded(error: unknown): Promise<void> {
    this.#over.signal.throwIfAborted();
    if (!this.#options.policy.failOpen || !isGuardsFailure(error)) throw error;
    this.#stream?.close();
    this.#options.onFailure?.(error);
    this.#over.signal.throwIfAborted();
    this.#unguarded = true;
    this.#resolvePrompt({ action: "pass", violation: null, observed: [] });
    this.#passage.releaseAll();
    if (this.#options.promptFirst && !this.#promptPassed) void this.#read();
    this.#changed.notify();
    await this.#until(() => this.#sourceEnd !== null);
    this.#conclude({ error });
  }

  #observe(findings: readonly Finding[]): void {
    for (const finding of findings) {
      this.#observed.push(finding);
      try {
        this.#options.onObserve?.(finding);
      } catch (error) {
        // Whatever it is, it is no failure of the guard's.
        this.#finish("failed", { error, ending: { error } });
      }
      this.#over.signal.throwIfAborted();
    }
  }

  #flag(finding: Finding, span: Span | null): never {
    this.#dropUnjudged();
    const { regenerations, units } = this.#continues;
    const place = span && { ...span, start: span.start + units, end: span.end + units };
    const violation = new ModerationViolation(finding, place, regenerations);
    this.#finish("flagged", { violation, ending: this.#strategy(violation) });
    throw violation;
  }

  /** With stream-first what nobody has read yet was not judged either. */
  #dropUnjudged(): void {
    if (this.#mode !== "hold-back" && !this.#ended) this.#passage.dropUnread();
  }

  /** The source is at its end. */
  #conclude(result: { decision?: Decision | null; error?: unknown }): void {
    if (this.#sourceEnd && "error" in this.#sourceEnd) {
      const { error } = this.#sourceEnd;
      this.#finish("failed", { ...result, error, ending: { error } });
    } else this.#finish("complete", result);
  }

  /** Waits for something that ends with the gate. */
  async #until(condition: () => boolean): Promise<void> {
    await this.#changed.until(() => this.#ended || condition());
    this.#over.signal.throwIfAborted();
  }

  /** What somebody else has promised, unless the gate has ended meanwhile. */
  async #live<R>(promise: Promise<R>): Promise<R> {
    const result = await promise;
    this.#over.signal.throwIfAborted();
    return result;
  }

  /** The one place where it ends. What comes after the first time changes nothing. */
  #finish(end: Outcome["end"], result: Result<T> = {}): void {
    if (this.#ended) return;
    const { error = null, violation = null, decision = null, ending = { parts: [] } } = result;
    const stats = this.stats;
    this.#passage.close(end === "complete" || end === "failed");
    // What has passed is still handed to the reader.
    const released = stats.released + this.#passage.unreadLength;
    if ("parts" in ending) this.#ending.parts.push(...ending.parts);
    else if ("error" in ending) this.#ending.thrown = ending;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    if (!("goesOn" in ending)) this.#stream?.close();
    this.#batches?.close();
    this.#scout?.close();
    const reason = violation ?? error ?? new ClosedError("STREAM_CLOSED", "Nobody reads on.");
    if (end !== "complete") this.#source.cancel(reason);
    this.#over.abort(reason);
    this.#resolvePrompt(null);
    this.#resolveDone({
      end,
      violation,
      observed: this.#observed,
      dropped: [],
      error,
      failedOpen: this.#unguarded,
      scoutError: this.#scout?.error ?? null,
      decision,
      stats: { ...stats, released },
    });
    this.#changed.notify();
  }
}

interface GateParts<T> {
  strategy?: FlagStrategy<T>;
  scout?: ScoutOptions | null;
  continues?: Continuance;
}

interface Result<T> {
  /** What it failed of. */
  error?: unknown;
  violation?: ModerationViolation;
  decision?: Decision | null;
  ending?: Ending<T>;
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
