import { ClosedError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import { type Review, Reviewer } from "../moderation/reviewer.js";
import { type Finding, rulePrompt } from "../moderation/ruling.js";
import { ALONE, type Continuance } from "./continuation.js";
import {
  checkMode,
  type GateOptions,
  type GateStats,
  type Outcome,
  type PartGate,
  type VerdictStream,
} from "./gate-options.js";
import { GateRecord } from "./gate-record.js";
import { isGuardsFailure } from "./guards-failure.js";
import { Intake } from "./intake.js";
import { Judging } from "./judging.js";
import { Lifetime } from "./lifetime.js";
import { PartReader } from "./part-reader.js";
import type { Part } from "./parts.js";
import { Passage } from "./passage.js";
import { ReleaseRule } from "./release-rule.js";
import { Scout, type ScoutOptions } from "./scout.js";
import type { Source } from "./source.js";
import { type Ending, type FlagStrategy, stop } from "./strategy.js";
import { ModerationViolation, type Span } from "./violation.js";

/**
 * A guard between a source and its reader: a pump, which moves parts, and a reviewer, who says how far. Reading, judging
 * and handing on run beside each other; buffers between them are bounded, so that the slowest sets the pace. It starts
 * with the first `next()` or with `start()`, and from then on holds a slot of the guard until it ends or is returned.
 */
export class Gate<T> implements PartGate<T> {
  readonly #open: () => VerdictStream;
  readonly #options: GateOptions;
  readonly #strategy: FlagStrategy<T>;
  readonly #continues: Continuance;
  readonly #life = new Lifetime();
  readonly #passage = new Passage<T>();
  readonly #intake: Intake<T>;
  readonly #reviewer: Reviewer;
  readonly #release: ReleaseRule<T>;
  readonly #scout: Scout | null;
  readonly #reader = new PartReader(this.#passage, this.#life);
  readonly #record = new GateRecord();
  #judging: Judging<T> | null = null;
  /** The guard has failed and the policy lets everything through. */
  #unguarded = false;

  /** The policy's ruling on the prompt; null where the gate ended before there was one. Never rejects. */
  readonly prompt = this.#record.prompt;
  /** How it ended. Never rejects. */
  readonly done = this.#record.done;

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
    checkMode(options.mode, scout);
    this.#open = open;
    this.#options = options;
    this.#strategy = strategy;
    this.#continues = continues;
    this.#scout = scout && new Scout(scout, options.policy.response.reading);
    this.#intake = new Intake(source, this.#passage, this.#life);
    this.#reviewer = new Reviewer(options.policy.response);
    this.#release = new ReleaseRule(this.#passage, this.#reviewer, options, continues.buffer);
  }

  get stats(): Readonly<GateStats> {
    const { received, judged, released, lag, peakLag } = this.#passage;
    const { promptMs } = this.#record;
    const prompt = promptMs === null ? null : this.#judging?.stream;
    return {
      ...{ received, judged, released, lag, peakLag },
      tokens: this.#judging?.tokens ?? 0,
      ...{ regenerations: 0, dropped: 0, suspicions: this.#scout?.suspicions ?? 0 },
      slides: this.#judging?.stream.slides ?? 0,
      promptTokens: prompt?.promptTokens ?? 0,
      reusedTokens: prompt?.reusedTokens ?? 0,
      promptMs,
      waitedForGuardMs: this.#intake.waitedForGuardMs,
    };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Begins to judge the prompt and to read the source. Idempotent. */
  start(): void {
    if (this.#record.hasBegun || this.#life.ended) return;
    this.#record.begin();
    this.#scout?.start();
    const { signal } = this.#options;
    if (signal?.aborted) this.#abort();
    else {
      signal?.addEventListener("abort", this.#abort);
      void this.#run();
    }
  }

  /** @throws {ModerationViolation} once what passed has been read; or what the guard or the source failed of */
  next(): Promise<IteratorResult<Part<T>, undefined>> {
    this.start();
    return this.#reader.next();
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

  async #run(): Promise<void> {
    try {
      await this.#guarded().catch((error) => this.#passUnguarded(error));
    } catch (error) {
      if (!this.#life.ended) this.#release.dropUnjudged();
      this.#finish("failed", { error, ending: { error } });
    }
  }

  async #guarded(): Promise<void> {
    const { promptFirst, batch = this.#scout ? {} : undefined } = this.#options;
    if (!promptFirst) this.#read();
    const own = { life: this.#life, passage: this.#passage, intake: this.#intake, release: this.#release };
    const parts = { ...own, reviewer: this.#reviewer };
    const judging = new Judging(this.#open(), parts, batch, (review) => this.#reviewed(review));
    this.#judging = judging;
    await this.#judgePrompt(judging);
    if (promptFirst) this.#read();
    this.#conclude({ decision: await judging.all() });
  }

  async #judgePrompt(judging: Judging<T>): Promise<void> {
    const ruling = rulePrompt(await judging.turns(), this.#options.policy);
    this.#record.judgedPrompt();
    this.#observe(ruling.observed);
    this.#record.rule(ruling);
    if (ruling.violation) this.#flag(ruling.violation, null);
    if (this.#release.isAtOnce) this.#passage.passIncomingAhead();
    this.#life.notify();
  }

  #reviewed({ flag, observed }: Review): void {
    this.#observe(observed);
    if (!flag) return;
    this.#release.releaseClear();
    this.#flag(flag, this.#passage.span());
  }

  #read(): void {
    void this.#intake.read((part) => this.#receive(part));
  }

  async #receive(part: Part<T>): Promise<void> {
    const scout = this.#unguarded ? null : this.#scout;
    if (scout && (await this.#life.during(scout.suspects(part)))) this.#release.suspect();
    if (this.#unguarded) this.#passage.pass(part);
    else {
      this.#passage.receive(part);
      if (this.#record.promptMs !== null && this.#release.isAtOnce) this.#passage.passAhead(part);
    }
    this.#life.notify();
  }

  /** Where the policy says so, text passes unjudged once the guard has failed. @throws what it failed of */
  async #passUnguarded(error: unknown): Promise<void> {
    this.#life.check();
    if (!this.#options.policy.failOpen || !isGuardsFailure(error)) throw error;
    this.#judging?.close();
    this.#options.onFailure?.(error);
    this.#life.check();
    this.#unguarded = true;
    this.#record.rule({ action: "pass", violation: null, observed: [] });
    this.#passage.releaseAll();
    if (this.#options.promptFirst && this.#record.promptMs === null) this.#read();
    this.#life.notify();
    await this.#life.until(() => this.#intake.end !== null);
    this.#conclude({ error });
  }

  #observe(findings: readonly Finding[]): void {
    for (const finding of findings) {
      this.#record.observe(finding);
      try {
        this.#options.onObserve?.(finding);
      } catch (error) {
        // Whatever it is, it is no failure of the guard's.
        this.#finish("failed", { error, ending: { error } });
      }
      this.#life.check();
    }
  }

  #flag(finding: Finding, span: Span | null): never {
    this.#release.dropUnjudged();
    const { regenerations, units } = this.#continues;
    const place = span && { ...span, start: span.start + units, end: span.end + units };
    const violation = new ModerationViolation(finding, place, regenerations);
    this.#finish("flagged", { violation, ending: this.#strategy(violation) });
    throw violation;
  }

  /** The source is at its end. */
  #conclude(result: { decision?: Decision | null; error?: unknown }): void {
    const { end } = this.#intake;
    if (end && "error" in end) {
      const { error } = end;
      this.#finish("failed", { ...result, error, ending: { error } });
    } else this.#finish("complete", result);
  }

  /** The one place where it ends. What comes after the first time changes nothing. */
  #finish(end: Outcome["end"], result: Result<T> = {}): void {
    if (this.#life.ended) return;
    const { error = null, violation = null, decision = null, ending = { parts: [] } } = result;
    const stats = this.stats;
    this.#passage.close(end === "complete" || end === "failed");
    // What has passed is still handed to the reader.
    const released = stats.released + this.#passage.unreadLength;
    this.#reader.endWith(ending);
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#judging?.close("goesOn" in ending);
    this.#scout?.close();
    const reason = violation ?? error ?? new ClosedError("STREAM_CLOSED", "Nobody reads on.");
    if (end !== "complete") this.#intake.cancel(reason);
    this.#life.end(reason);
    this.#record.end({
      end,
      violation,
      error,
      failedOpen: this.#unguarded,
      scoutError: this.#scout?.error ?? null,
      decision,
      stats: { ...stats, released },
    });
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
