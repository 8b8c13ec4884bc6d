import { setTimeout as sleep } from "node:timers/promises";
import { benchIds } from "../model.js";
import type { Generator } from "./generator.js";
import { type Pace, PUBLISHED } from "./published.js";

/** Where a source tells no time to the first token. */
const DEFAULT_TTFT_MS = 200;

// As models give them: a word with the space before it.
const WORDS =
  " mix the flour with water and a little salt then let it rest for an hour before you bake it in a hot oven".split(
    /(?= )/,
  );

/**
 * Tokens at an even pace that somebody published, on a machine that need not be able to run the model. Each is due at
 * its own time, whatever became of those before it; a timer's accuracy is about a millisecond.
 */
export class Replay implements Generator {
  readonly name: string;
  readonly about: Record<string, unknown>;
  readonly #pace: Pace;
  readonly #gives: "ids" | "text";

  /** @param pace a name of PUBLISHED, or milliseconds a token */
  constructor(pace: string, gives: "ids" | "text") {
    const published = PUBLISHED[pace];
    if (!published && !(Number(pace) > 0)) {
      const names = Object.keys(PUBLISHED).join(", ");
      throw new RangeError(`Unknown pace "${pace}". Choose milliseconds a token, or one of ${names}.`);
    }
    this.#pace = published ?? { itlMs: Number(pace), what: `${pace} ms a token`, source: "chosen" };
    this.#gives = gives;
    this.name = `${pace}, ${gives}`;
    this.about = { kind: "replay", gives, ...this.#pace, ttftMs: this.#pace.ttftMs ?? DEFAULT_TTFT_MS };
  }

  async *respond(tokens: number, signal: AbortSignal): AsyncGenerator<number | string> {
    const ids = benchIds(tokens);
    const firstDue = performance.now() + (this.#pace.ttftMs ?? DEFAULT_TTFT_MS);
    for (let i = 0; i < tokens && !signal.aborted; i++) {
      const wait = firstDue + i * this.#pace.itlMs - performance.now();
      if (wait > 0) await sleep(wait);
      yield this.#gives === "ids" ? ids[i] : WORDS[i % WORDS.length];
    }
  }

  async close(): Promise<void> {}
}
