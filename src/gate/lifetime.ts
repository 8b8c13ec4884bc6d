import { Condition } from "./condition.js";

/** How long something works. Whoever works for it waits by it, and goes no further once it has ended. */
export class Lifetime {
  readonly #changed = new Condition();
  readonly #over = new AbortController();

  get ended(): boolean {
    return this.#over.signal.aborted;
  }

  /** Wakes who waits: something is different. */
  notify(): void {
    this.#changed.notify();
  }

  /** Resolves once the condition holds, or it has ended. */
  async wait(condition: () => boolean): Promise<void> {
    await this.#changed.until(() => this.ended || condition());
  }

  /** Resolves once the condition holds. @throws why it ended, where it has */
  async until(condition: () => boolean): Promise<void> {
    await this.wait(condition);
    this.check();
  }

  /** What somebody else has promised. @throws why it ended, where it has meanwhile */
  async during<R>(promise: Promise<R>): Promise<R> {
    const result = await promise;
    this.check();
    return result;
  }

  /** @throws why it ended, where it has */
  check(): void {
    this.#over.signal.throwIfAborted();
  }

  end(reason: unknown): void {
    this.#over.abort(reason);
    this.notify();
  }
}
