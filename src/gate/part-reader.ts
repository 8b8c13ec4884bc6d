import type { Lifetime } from "./lifetime.js";
import type { Part } from "./parts.js";
import type { Passage } from "./passage.js";
import type { Ending } from "./strategy.js";

/** A gate towards its reader: hands out what passed, and once all of it is read, what it ends with. */
export class PartReader<T> {
  readonly #life: Lifetime;
  readonly #passage: Passage<T>;
  /** In place of what did not pass. */
  readonly #instead: Part<T>[] = [];
  #thrown: { error: unknown } | null = null;

  constructor(passage: Passage<T>, life: Lifetime) {
    this.#passage = passage;
    this.#life = life;
  }

  /** @throws what it ends with, once */
  async next(): Promise<IteratorResult<Part<T>, undefined>> {
    for (;;) {
      const part = this.#passage.read();
      if (part) {
        this.#life.notify();
        return { done: false, value: part };
      }
      if (this.#life.ended) break;
      await this.#life.wait(() => this.#passage.isReadable);
    }
    const instead = this.#instead.shift();
    if (instead) return { done: false, value: instead };
    const thrown = this.#thrown;
    this.#thrown = null;
    if (thrown) throw thrown.error;
    return { done: true, value: undefined };
  }

  /** To be called once, before its life ends. */
  endWith(ending: Ending<T>): void {
    if ("parts" in ending) this.#instead.push(...ending.parts);
    else if ("error" in ending) this.#thrown = ending;
  }
}
