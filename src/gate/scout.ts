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
  readonly #options: ScoutOptions;
  readonly #reading: Strictness;
  #reads: { stream: Promise<VerdictStream>; decode: (ids: readonly number[]) => string } | null = null;
  #suspicions = 0;
  #error: unknown = null;

  constructor(options: ScoutOptions, reading: Strictness) {
    this.#options = options;
    this.#reading = reading;
  }

  /** How many parts it suspected. */
  get suspicions(): number {
    return this.#suspicions;
  }

  /** Begins to read. To be called once, ahead of the rest. */
  start(): void {
    const stream = this.#options.open();
    stream.catch(() => {});
    this.#reads = { stream, decode: this.#options.decoder() };
  }

  /** What it failed of; null where it works. */
  get error(): unknown {
    return this.#error;
  }

  /** Whether there is anything in a part that it does not take for safe, however much of it may still change. */
  async suspects<T>(part: Part<T>): Promise<boolean> {
    const found = await this.#finds(part);
    if (found) this.#suspicions++;
    return found;
  }

  close(): void {
    this.#reads?.stream.then(
      (stream) => stream.close(),
      () => {},
    );
  }

  async #finds<T>(part: Part<T>): Promise<boolean> {
    const reads = this.#reads;
    if (this.#error !== null || !reads) return true;
    if (part.kind === "item") return false;
    const text = part.kind === "text" ? part.text : reads.decode(part.ids);
    try {
      const verdicts = text === "" ? [] : await (await reads.stream).pushText(text);
      return verdicts.some((verdict) => this.#counts(verdict));
    } catch (error) {
      this.#error = error;
      return true;
    }
  }

  #counts({ risk }: Verdict): boolean {
    const severity = severityOf(risk);
    return severity === "unsafe" || (severity === "controversial" && this.#reading === "strict");
  }
}
