import { Condition } from "./condition.js";

const CAPACITY = 32;

/** Hands values from one that gives to one that takes; who gives waits while too many are under way. */
export class Channel<T> implements AsyncIterableIterator<T> {
  readonly #values: T[] = [];
  readonly #changed = new Condition();
  #closed = false;
  #left = false;
  #error: { error: unknown } | null = null;

  /** Whether nobody takes any more. */
  get left(): boolean {
    return this.#left;
  }

  /** Resolves when there is room again. What nobody takes any more is dropped. */
  async write(value: T): Promise<void> {
    if (this.#left || this.#closed) return;
    this.#values.push(value);
    this.#changed.notify();
    await this.#changed.until(() => this.#values.length < CAPACITY || this.#left);
  }

  /** Nothing more comes; with an error, that is thrown after the last value. */
  close(failure?: { error: unknown }): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = failure ?? null;
    this.#changed.notify();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    await this.#changed.until(() => this.#values.length > 0 || this.#closed || this.#left);
    if (this.#values.length > 0 && !this.#left) {
      const value = this.#values.shift() as T;
      this.#changed.notify();
      return { done: false, value };
    }
    const failure = this.#error;
    this.#error = null;
    if (failure && !this.#left) throw failure.error;
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.#left = true;
    this.#values.length = 0;
    this.#changed.notify();
    return { done: true, value: undefined };
  }
}
