import { InputError } from "../errors.js";
import type { Attempt } from "./attempt.js";
import { lengthOf, type Part } from "./parts.js";
import { type Source, SourceReader } from "./source.js";

/** What differs where a gate is one of several, each of which goes on from what those before it released. */
export interface Continuance {
  /** How many of the newest tokens are held back, whatever their verdicts. */
  buffer: number;
  /** How many gates there were before. */
  regenerations: number;
  /** UTF-16 units that the reader had before. */
  units: number;
}

export const ALONE: Continuance = { buffer: 0, regenerations: 0, units: 0 };

/** A source's parts behind others. */
export class Continuation<T> implements AsyncIterableIterator<Part<T>> {
  readonly #first: Part<T>[];
  readonly #signal: AbortSignal;
  readonly #source: SourceReader<Part<T>>;

  constructor(first: Part<T>[], signal: AbortSignal, source: Source<Part<T>>, attempt: Attempt) {
    this.#first = first;
    this.#signal = signal;
    this.#source = new SourceReader(source, attempt);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Part<T>, undefined>> {
    const first = this.#first.shift();
    if (first) return { done: false, value: first };
    const { done, value } = await this.#source.next();
    if (done) return { done, value: undefined };
    if (value.kind !== "ids") return { done: false, value };
    throw new InputError("CHUNK_NOT_TEXT", 'The mode "regenerate" goes on from a text: give text, not ids.');
  }

  /** Goes straight to the source, whose `next()` may be waiting. */
  async return(): Promise<IteratorResult<Part<T>, undefined>> {
    this.#source.cancel(this.#signal.reason);
    return { done: true, value: undefined };
  }
}

/** What the reader has, and behind it what it gets of an intervention. */
export function plainly({ prefix }: Attempt, released: string): Part<never>[] {
  const parts: Part<never>[] = [];
  if (released !== "") parts.push({ kind: "text", text: released, again: true });
  const phrase = prefix.slice(released.length);
  if (phrase !== "") parts.push({ kind: "text", text: phrase });
  return parts;
}

/** Units that a gate is given to begin with, and that do not come out. */
export function lengthOfGiven<T>(parts: readonly Part<T>[]): number {
  const given = parts.filter((part) => part.kind === "text" && (part.again || part.silent));
  return given.reduce((sum, part) => sum + lengthOf(part), 0);
}
