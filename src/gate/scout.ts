import { severityOf } from "../moderation/labels.js";
import type { Strictness } from "../moderation/policy.js";
import type { Verdict } from "../moderation/verdict.js";
import type { VerdictStream } from "./gate-options.js";
import type { Part } from "./parts.js";

/** What a gate needs to have a small guard read ahead of the one that rules. */
export interface ScoutOptions {
  /** Opens the small guard's stream of the same conversation, when the gate starts. */
  open(): Promise<VerdictStream>;
  /** What ids of the ruling guard stand for, as it comes: half a character waits for its other half. */
  decoder(): (ids: readonly number[]) => string;
}

/**
 * A small guard that reads ahead of the one that rules, and tells where it suspects something. It rules on nothing: where it
 * fails, everything is suspicious.
 */
export class Scout {
  readonly #stream: Promise<VerdictStream>;
  readonly #decode: (ids: readonly number[]) => string;
  readonly #reading: Strictness;
  #error: unknown = null;

  constructor({ open, decoder }: ScoutOptions, reading: Strictness) {
    this.#stream = open();
    this.#stream.catch(() => {});
    this.#decode = decoder();
    this.#reading = reading;
  }

  /** What it failed of; null where it works. */
  get error(): unknown {
    return this.#error;
  }

  /** Whether there is anything in a part that it does not take for safe, however much of it may still change. */
  async suspects<T>(part: Part<T>): Promise<boolean> {
    if (this.#error !== null) return true;
    if (part.kind === "item") return false;
    const text = part.kind === "text" ? part.text : this.#decode(part.ids);
    try {
      const verdicts = text === "" ? [] : await (await this.#stream).pushText(text);
      return verdicts.some((verdict) => this.#counts(verdict));
    } catch (error) {
      this.#error = error;
      return true;
    }
  }

  close(): void {
    this.#stream.then(
      (stream) => stream.close(),
      () => {},
    );
  }

  #counts({ risk }: Verdict): boolean {
    const severity = severityOf(risk);
    return severity === "unsafe" || (severity === "controversial" && this.#reading === "strict");
  }
}
