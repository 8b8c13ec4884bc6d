import { InputError } from "../errors.js";

/** Anything that gives chunks: an async iterable such as an SDK's stream, a Web or Node stream, a generator. */
export type Chunks<C> = AsyncIterable<C> | ReadableStream<C> | Iterable<C>;

/**
 * What a gate reads from. As a function it is called with a signal that fires when nobody wants more: hand it to the
 * model's request, so that the model stops as well.
 */
export type Source<C> = Chunks<C> | ((signal: AbortSignal) => Chunks<C> | Promise<Chunks<C>>);

/** A source being read, and stopped at most once. */
export class SourceReader<C> {
  readonly #source: Source<C>;
  readonly #controller = new AbortController();
  #iterator: AsyncIterator<C> | Iterator<C> | null = null;
  #over = false;

  constructor(source: Source<C>) {
    this.#source = source;
  }

  async next(): Promise<IteratorResult<C, unknown>> {
    if (this.#over) return { done: true, value: undefined };
    try {
      if (!this.#iterator) {
        const source = this.#source;
        const chunks = typeof source === "function" ? await source(this.#controller.signal) : source;
        this.#iterator = iterate(chunks);
        if (this.#over) {
          this.#return();
          return { done: true, value: undefined };
        }
      }
      const result = await this.#iterator.next();
      if (result.done) this.#over = true;
      return result;
    } catch (error) {
      this.#over = true;
      throw error;
    }
  }

  /** Tells the source that no more is wanted. Never throws, and does not wait: the source may be stuck. */
  cancel(reason: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#controller.abort(reason);
    this.#return();
  }

  #return(): void {
    const source = this.#source;
    try {
      const iterator = this.#iterator ?? (typeof source === "function" ? null : iterate(source));
      Promise.resolve(iterator?.return?.()).catch(() => {});
    } catch {
      // A source that fails to stop is out of reach; its text goes nowhere.
    }
  }
}

/** @throws {InputError} SOURCE_INVALID */
export function iterate<C>(chunks: Chunks<C>): AsyncIterator<C> | Iterator<C> {
  const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now, destroy } = Object(chunks);
  const begin = later ?? now;
  if (typeof begin !== "function") {
    throw new InputError(
      "SOURCE_INVALID",
      "The source is nothing to read from. It must be an async iterable, a stream or a list, or a function that gives one.",
    );
  }
  const iterator = begin.call(chunks);
  if (typeof destroy !== "function") return iterator;
  // A Node stream's own iterator is left with the next chunk at the earliest, and before the first one not at all.
  return {
    next: () => iterator.next(),
    async return() {
      destroy.call(chunks);
      return { done: true, value: undefined };
    },
  };
}
