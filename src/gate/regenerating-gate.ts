import { deferred } from "../moderation/deferred.js";
import type { Finding, Ruling } from "../moderation/ruling.js";
import {
  ATTEMPTS,
  type Attempt,
  BUFFER,
  FIRST_ATTEMPT,
  nextAttempt,
  type RegenerateOptions,
} from "./attempt.js";
import { AttemptSums, type Spent } from "./attempt-sums.js";
import { Continuation, lengthOfGiven, plainly } from "./continuation.js";
import { Gate } from "./gate.js";
import type { GateOptions, GateStats, Outcome, PartGate, RestartableStream } from "./gate-options.js";
import type { Part } from "./parts.js";
import type { Source } from "./source.js";
import { type FlagStrategy, stop } from "./strategy.js";
import type { ModerationViolation } from "./violation.js";

/** Milliseconds after which what waits is judged, however little it is. */
const BATCH_MS = 500;

export interface RegeneratingOptions<T> extends Omit<GateOptions, "mode" | "release">, RegenerateOptions {
  /** What a flag does once the source is asked no more. Default: the violation is thrown. */
  strategy?: FlagStrategy<T>;
  /**
   * What comes before the source's own parts: what the reader has (`again`), and an intervention's phrase. Is told also how
   * much was judged in the attempts before.
   */
  before?: (attempt: Attempt, released: string, spent: Spent) => Part<T>[];
}

/**
 * A gate that has its source try again: a row of gates, one an attempt, over one stream of the guard. Each holds the newest
 * tokens back; at a flag it drops them, and the next one begins with what the reader has. The guard reads that as it did
 * before, without running it again, so all that comes out is judged behind the text that its reader sees.
 */
export class RegeneratingGate<T> implements PartGate<T> {
  readonly #ask: (attempt: Attempt) => Source<Part<T>>;
  readonly #openStream: () => RestartableStream;
  readonly #options: RegeneratingOptions<T>;
  readonly #strategy: FlagStrategy<T>;
  #stream: RestartableStream | null = null;
  #gate: Gate<T>;
  #attempt = FIRST_ATTEMPT;
  /** What the reader has. */
  #released = "";
  /** Has been flagged, and the source was not asked again yet. */
  #flagged: ModerationViolation | null = null;
  readonly #dropped: ModerationViolation[] = [];
  readonly #observed: Finding[] = [];
  readonly #sums = new AttemptSums();
  /** Parts in place of a violation that the source has thrown. */
  readonly #instead: Part<T>[] = [];
  readonly #outcome = deferred<Outcome>();

  readonly prompt: Promise<Ruling | null>;
  readonly done = this.#outcome.promise;

  /**
   * @param ask is asked for each attempt
   * @param open opens the guard's stream, when the gate starts
   */
  constructor(
    ask: (attempt: Attempt) => Source<Part<T>>,
    open: () => RestartableStream,
    options: RegeneratingOptions<T>,
  ) {
    this.#ask = ask;
    this.#openStream = open;
    this.#options = options;
    this.#strategy = options.strategy ?? stop;
    this.#gate = this.#open();
    this.prompt = this.#gate.prompt;
    options.signal?.addEventListener("abort", this.#abort);
  }

  get stats(): Readonly<GateStats> {
    return this.#statsWith(this.#gate.stats);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  start(): void {
    this.#gate.start();
  }

  /** @throws {ModerationViolation} once what passed has been read; or what the guard or the source failed of */
  async next(): Promise<IteratorResult<Part<T>, undefined>> {
    for (;;) {
      const gate = this.#gate;
      gate.start();
      const { done, value } = await this.#read(gate);
      if (!done) {
        if (value.kind === "text") this.#released += value.text;
        return { done, value };
      }
      if (gate !== this.#gate) continue;
      if (!this.#flagged) return { done, value };
      this.#goOn(this.#flagged);
    }
  }

  /** Stops everything: the source is told, the guard's slot is free. Idempotent. */
  async return(): Promise<IteratorResult<Part<T>, undefined>> {
    this.#instead.length = 0;
    await this.#gate.return();
    if (this.#flagged) {
      this.#goOn(this.#flagged);
      await this.#gate.return();
    }
    return { done: true, value: undefined };
  }

  /** Between two attempts nobody else listens. */
  #abort = (): void => {
    if (!this.#flagged) return;
    this.#goOn(this.#flagged);
    this.#gate.start();
  };

  async #read(gate: Gate<T>): Promise<IteratorResult<Part<T>, undefined>> {
    try {
      const result = await gate.next();
      const instead = result.done ? this.#instead.shift() : undefined;
      return instead ? { done: false, value: instead } : result;
    } catch (error) {
      if (error !== this.#attempt.violation || error === null) throw error;
      const ending = this.#strategy(error as ModerationViolation);
      if (!("parts" in ending)) throw error;
      this.#instead.push(...ending.parts);
      const instead = this.#instead.shift();
      return instead ? { done: false, value: instead } : { done: true, value: undefined };
    }
  }

  #open(): Gate<T> {
    const {
      buffer = BUFFER,
      attempts: _,
      intervention: __,
      before: ___,
      strategy: ____,
      ...rest
    } = this.#options;
    const attempt = this.#attempt;
    const released = this.#released;
    const first = this.#options.before?.(attempt, released, this.#sums.before) ?? plainly(attempt, released);
    this.#sums.begin(lengthOfGiven(first));
    const gate = new Gate<T>(
      (signal) => new Continuation(first, signal, this.#ask(attempt), attempt),
      () => this.#streamOf(),
      {
        ...rest,
        batch: rest.batch ?? { tokens: Math.max(1, Math.floor(buffer / 2)), ms: BATCH_MS },
        onObserve: (finding) => this.#observe(finding),
      },
      {
        strategy: (violation) => this.#decide(violation),
        continues: { buffer, regenerations: attempt.attempt, units: this.#released.length },
      },
    );
    void gate.done.then((outcome) => this.#conclude(gate, outcome));
    return gate;
  }

  #streamOf(): RestartableStream {
    if (this.#stream) this.#stream.restart();
    else this.#stream = this.#openStream();
    return this.#stream;
  }

  /** What a flag does. */
  #decide(violation: ModerationViolation): ReturnType<FlagStrategy<T>> {
    const { attempts = ATTEMPTS } = this.#options;
    if (violation.part === "prompt" || this.#dropped.length === attempts) return this.#strategy(violation);
    this.#flagged = violation;
    this.#dropped.push(violation);
    return { goesOn: true };
  }

  /** Has the source asked again. */
  #goOn(violation: ModerationViolation): void {
    const { intervention = "resample" } = this.#options;
    this.#sums.drop(this.#gate.stats, this.#stream?.recalled ?? 0);
    this.#flagged = null;
    this.#attempt = nextAttempt(this.#dropped.length, this.#released, intervention, violation);
    this.#gate = this.#open();
  }

  /** What was noted before is noted once. */
  #observe(finding: Finding): void {
    const again = finding.part === "prompt" || finding.index < (this.#stream?.recalled ?? 0);
    if (this.#dropped.length > 0 && again) return;
    this.#observed.push(finding);
    this.#options.onObserve?.(finding);
  }

  #statsWith(own: GateStats): GateStats {
    const sums = this.#sums.stats(own, this.#stream?.recalled ?? 0);
    return { ...sums, regenerations: this.#dropped.length };
  }

  /** One attempt has ended: the last of them unless the source is asked again. */
  #conclude(gate: Gate<T>, outcome: Outcome): void {
    if (gate !== this.#gate || this.#flagged) return;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#stream?.close();
    const { violation } = this.#attempt;
    const gaveUp = violation !== null && outcome.error === violation;
    const { released } = outcome.stats;
    this.#outcome.resolve({
      ...outcome,
      ...(gaveUp && { end: "flagged", violation, error: null }),
      observed: this.#observed,
      dropped: this.#dropped,
      stats: this.#statsWith({ ...gate.stats, released }),
    });
  }
}
