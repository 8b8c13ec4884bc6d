import type { Lifetime } from "./lifetime.js";
import type { Part } from "./parts.js";
import type { Passage } from "./passage.js";
import { type Source, SourceReader } from "./source.js";

/** What may be under way (unjudged, or judged and unread) before the source has to wait: UTF-16 units, or ids. */
export const HIGH_WATER = 16_384;

/** Reads a gate's source, no faster than guard and reader follow. */
export class Intake<T> {
  readonly #source: SourceReader<Part<T>>;
  readonly #passage: Passage<T>;
  readonly #life: Lifetime;
  #end: { error?: unknown } | null = null;
  #waitedMs = 0;

  constructor(source: Source<Part<T>>, passage: Passage<T>, life: Lifetime) {
    this.#source = new SourceReader(source);
    this.#passage = passage;
    this.#life = life;
  }

  /** Set once the source is at its end, with what it failed of, if it did. */
  get end(): { error?: unknown } | null {
    return this.#end;
  }

  /** Milliseconds that the source had to wait because the guard was behind. */
  get waitedForGuardMs(): number {
    return this.#waitedMs;
  }

  /** Reads up to the source's end. Never rejects. @param receive what becomes of a part */
  async read(receive: (part: Part<T>) => void | Promise<void>): Promise<void> {
    try {
      for (;;) {
        await this.#room();
        const { done, value } = await this.#life.during(this.#source.next());
        if (done) break;
        await receive(value as Part<T>);
      }
      this.#end = {};
    } catch (error) {
      this.#end = { error };
    }
    this.#life.notify();
  }

  /** Tells the source that no more is wanted. */
  cancel(reason: unknown): void {
    this.#source.cancel(reason);
  }

  /** Waits until the source may give more. */
  async #room(): Promise<void> {
    const isBehind = () => this.#passage.lag >= HIGH_WATER;
    const isUnread = () => this.#passage.unread >= HIGH_WATER;
    while (isBehind() || isUnread()) {
      const [behind, since] = [isBehind(), performance.now()];
      await this.#life.until(() => isBehind() !== behind || (!behind && !isUnread()));
      if (behind) this.#waitedMs += performance.now() - since;
    }
  }
}
