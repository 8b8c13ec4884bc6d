import { Batches, type BatchOptions } from "../gate/batches.js";
import { InFlight } from "../gate/in-flight.js";
import type { GuardStream } from "../moderation/stream.js";
import type { Verdict } from "../moderation/verdict.js";
import { readInput } from "./input.js";
import type { InputKind } from "./input-kinds.js";

export interface FeedingOptions {
  batch: BatchOptions | undefined;
  /** Chunks under way before reading waits. */
  mostInFlight: number;
  onChunk: (chunk: string | number[]) => void;
  /** `elapsedMs` is null of what the text's end alone has settled. */
  onVerdicts: (verdicts: Verdict[], elapsedMs: number | null) => void;
}

/** Feeds a stream from standard input. */
export class Feeding {
  readonly #options: FeedingOptions;
  readonly #batches: Batches;
  readonly #inFlight = new InFlight(() => process.stdin.destroy());
  /** When the first chunk came of those that wait in a batch. */
  #since: number | null = null;

  constructor(stream: GuardStream, options: FeedingOptions) {
    this.#options = options;
    this.#batches = new Batches(stream, options.batch, () => this.#judge("", []));
  }

  /**
   * Judges all that comes.
   *
   * @returns what ended the input in place of its end: what came before counts
   * @throws what the guard failed of
   */
  async all(input: InputKind): Promise<{ error: unknown } | null> {
    const broken = await this.#read(input);
    await this.#inFlight.all();
    const verdicts = await this.#batches.settle();
    this.#options.onVerdicts(verdicts, this.#since === null ? null : performance.now() - this.#since);
    this.#inFlight.check();
    return broken;
  }

  async #read(input: InputKind): Promise<{ error: unknown } | null> {
    const { onChunk, mostInFlight } = this.#options;
    try {
      for await (const chunk of readInput(input)) {
        if (this.#inFlight.hasFailed) break;
        onChunk(chunk);
        this.#judge(typeof chunk === "string" ? chunk : "", typeof chunk === "string" ? [] : chunk);
        await this.#inFlight.below(mostInFlight);
      }
      return null;
    } catch (error) {
      return { error };
    }
  }

  #judge(text: string, ids: readonly number[]): void {
    const started = this.#since ?? performance.now();
    const judging = this.#batches.push(text, ids, false).then((verdicts) => {
      this.#since = this.#batches.waiting > 0 ? started : null;
      this.#options.onVerdicts(verdicts, performance.now() - started);
    });
    this.#inFlight.add(judging);
  }
}
