import { InputError } from "../errors.js";
import { type Attempt, FIRST_ATTEMPT } from "./attempt.js";

/** Anything that gives chunks: an async iterable such as an SDK's stream, a Web or Node stream, a generator. */
export type Chunks<C> = AsyncIterable<C> | ReadableStream<C> | Iterable<C>;

/**
 * What a gate reads from: chunks, or a promise of them such as a client's call gives. As a function it is called with a
 * signal that fires when nobody wants more: hand it to the model's request, so that the model stops as well. In the mode
 * "regenerate" it must be a function, and is called again with what it is to go on from.
 */
export type Source<C> =
  | Chunks<C>
  | PromiseLike<Chunks<C>>
  | ((signal: AbortSignal, attempt: Attempt) => Chunks<C> | PromiseLike<Chunks<C>>);

type Reader<C> = AsyncIterator<C> | Iterator<C>;

/** A source being read, and stopped at most once. */
export class SourceReader<C> {
  readonly #source: Source<C>;
  readonly #attempt: Attempt;
  readonly #controller = new AbortController();
  #iterator: Reader<C> | null = null;
  #over = false;

  /** @param attempt what it is asked for, where it is a function */
  constructor(source: Source<C>, attempt = FIRST_ATTEMPT) {
    this.#source = source;
    this.#attempt = attempt;
    // Its failure is told to the one who reads; until then nobody has to have heard of it.
    if (isPromise(source)) source.then(undefined, () => {});
  }

  async next(): Promise<IteratorResult<C, unknown>> {
    if (this.#over) return { done: true, value: undefined };
    try {
      if (!this.#iterator) {
        const source = this.#source;
        const chunks = await (typeof source === "function"
          ? source(this.#controller.signal, this.#attempt)
          : source);
        this.#iterator = iterate(chunks);
        if (this.#over) {
          leave(this.#iterator);
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
    const source = this.#source;
    try {
      if (this.#iterator) leave(this.#iterator);
      else if (isPromise(source))
        source.then(
          (chunks) => leave(iterate(chunks)),
          () => {},
        );
      else if (typeof source !== "function") leave(iterate(source));
    } catch {
      // A source that fails to stop is out of reach; its text goes nowhere.
    }
  }
}

function leave(iterator: Reader<unknown>): void {
  Promise.resolve(iterator.return?.()).catch(() => {});
}

export function isPromise<C>(source: Source<C>): source is PromiseLike<Chunks<C>> {
  return typeof (source as Partial<PromiseLike<unknown>> | null)?.then === "function";
}

/** @throws {InputError} SOURCE_INVALID */
export function iterate<C>(chunks: Chunks<C>): Reader<C> {
  const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now, getReader } = Object(chunks);
  if (typeof getReader === "function") return readerOf(chunks as ReadableStream<C>);
  const begin = later ?? now;
  if (typeof begin !== "function") {
    throw new InputError(
      "SOURCE_INVALID",
      "The source is nothing to read from. It must be a stream, an async iterable or a list, a promise of one, or a " +
        "function that gives one. Of a model's client, ask for a stream (stream: true).",
    );
  }
  if (isEmitter(chunks) && chunks.ended) {
    throw new InputError(
      "SOURCE_INVALID",
      "The source is a client's stream that has ended, and nobody has kept what it said. Hand it over where it is made.",
    );
  }
  const iterator: Reader<C> = begin.call(chunks);
  const stop = stopOf(chunks);
  if (!stop) return iterator;
  return {
    async next() {
      const result = await iterator.next();
      // Its iterator ends alike where it failed between two reads.
      if (result.done && isEmitter(chunks)) await chunks.done();
      return result;
    },
    async return() {
      stop();
      leave(iterator);
      return { done: true, value: undefined };
    },
  };
}

/** A stream that runs by itself, whoever listens: the helpers' of `openai` and `@anthropic-ai/sdk`. */
interface Emitter {
  readonly ended: boolean;
  on(event: string, listener: () => void): unknown;
  /** Rejects where it failed. */
  done(): Promise<void>;
}

export function isEmitter(chunks: unknown): chunks is Emitter {
  const { ended, on, done } = Object(chunks);
  return typeof ended === "boolean" && typeof on === "function" && typeof done === "function";
}

/** A Web stream's own iterator is left with the next chunk at the earliest; its reader is at once. */
function readerOf<C>(stream: ReadableStream<C>): AsyncIterator<C> {
  const reader = stream.getReader();
  return {
    next: () => reader.read() as Promise<IteratorResult<C>>,
    async return() {
      await reader.cancel();
      return { done: true, value: undefined };
    },
  };
}

/**
 * How a stream is stopped that may be waiting for its server: a generator is left with the next chunk at the earliest, and
 * before its first one tells nobody. Node's streams have `destroy`, those of `ollama` and the helpers of `openai` and
 * `@anthropic-ai/sdk` have `abort`, the streams of these two a `controller`.
 */
function stopOf(chunks: unknown): (() => void) | null {
  const { destroy, abort, controller } = Object(chunks);
  if (typeof destroy === "function") return () => destroy.call(chunks);
  if (typeof abort === "function") return () => abort.call(chunks);
  return typeof controller?.abort === "function" ? () => controller.abort() : null;
}
