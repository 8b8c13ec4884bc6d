import { ClosedError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import { deferred } from "../moderation/deferred.js";
import { type Review, Reviewer } from "../moderation/reviewer.js";
import { type Finding, type Ruling, rulePrompt } from "../moderation/ruling.js";
import { ALONE, type Continuance } from "./continuation.js";
import {
  checkMode,
  type GateOptions,
  type GateStats,
  type Outcome,
  type PartGate,
  type VerdictStream,
} from "./gate-options.js";
import { isGuardsFailure } from "./guards-failure.js";
import { Intake } from "./intake.js";
import { Judging } from "./judging.js";
import { Lifetime } from "./lifetime.js";
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
  readonly #scoutOptions: ScoutOptions | null;
  #scout: Scout | null = null;
  #suspicions = 0;
  #judging: Judging<T> | null = null;
  #startedAt: number | null = null;
  /** Milliseconds until the prompt passed, or was flagged. */
  #promptMs: number | null = null;
  /** The guard has failed and the policy lets everything through. */
  #unguarded = false;
  /** What the reader gets once all that passed is read. */
  readonly #ending: { parts: Part<T>[]; thrown: { error: unknown } | null } = { parts: [], thrown: null };
  readonly #observed: Finding[] = [];
  readonly #ruling = deferred<Ruling | null>();
  readonly #outcome = deferred<Outcome>();

  /** The policy's ruling on the prompt; null where the gate ended before there was one. Never rejects. */
  readonly prompt = this.#ruling.promise;
  /** How it ended. Never rejects. */
  readonly done = this.#outcome.promise;

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
    this.#scoutOptions = scout;
    this.#intake = new Intake(source, this.#passage, this.#life);
    this.#reviewer = new Reviewer(options.policy.response);
    this.#release = new ReleaseRule(this.#passage, this.#reviewer, options, continues.buffer);
  }

  get stats(): Readonly<GateStats> {
    const { received, judged, released, lag, peakLag } = this.#passage;
    const prompt = this.#promptMs === null ? null : this.#judging?.stream;
    return {
      ...{ received, judged, released, lag, peakLag },
      tokens: this.#judging?.tokens ?? 0,
      ...{ regenerations: 0, dropped: 0, suspicions: this.#suspicions },
      slides: this.#judging?.stream.slides ?? 0,
      promptTokens: prompt?.promptTokens ?? 0,
      reusedTokens: prompt?.reusedTokens ?? 0,
      promptMs: this.#promptMs,
      waitedForGuardMs: this.#intake.waitedForGuardMs,
    };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Begins to judge the prompt and to read the source. Idempotent. */
  start(): void {
    if (this.#startedAt !== null || this.#life.ended) return;
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
        this.#life.notify();
        return { done: false, value: part };
      }
      if (this.#life.ended) break;
      await this.#life.wait(() => this.#passage.isReadable);
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

  async #run(): Promise<void> {
    try {
      await this.#guarded().catch((error) => this.#passUnguarded(error));
    } catch (error) {
      if (!this.#life.ended) this.#release.dropUnjudged();
      this.#finish("failed", { error, ending: { error } });
    }
  }

  async #guarded(): Promise<void> {
    const { promptFirst, batch = this.#scoutOptions ? {} : undefined } = this.#options;
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
    this.#promptMs = performance.now() - (this.#startedAt as number);
    this.#observe(ruling.observed);
    this.#ruling.resolve(ruling);
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
    if (scout && (await this.#life.during(scout.suspects(part)))) {
      this.#suspicions++;
      this.#release.suspect();
    }
    if (this.#unguarded) this.#passage.pass(part);
    else {
      this.#passage.receive(part);
      if (this.#promptMs !== null && this.#release.isAtOnce) this.#passage.passAhead(part);
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
    this.#ruling.resolve({ action: "pass", violation: null, observed: [] });
    this.#passage.releaseAll();
    if (this.#options.promptFirst && this.#promptMs === null) this.#read();
    this.#life.notify();
    await this.#life.until(() => this.#intake.end !== null);
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
    if ("parts" in ending) this.#ending.parts.push(...ending.parts);
    else if ("error" in ending) this.#ending.thrown = ending;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#judging?.close("goesOn" in ending);
    this.#scout?.close();
    const reason = violation ?? error ?? new ClosedError("STREAM_CLOSED", "Nobody reads on.");
    if (end !== "complete") this.#intake.cancel(reason);
    this.#life.end(reason);
    this.#ruling.resolve(null);
    this.#outcome.resolve({
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
