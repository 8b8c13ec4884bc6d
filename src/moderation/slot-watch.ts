/** What is to be known of a stream to tell whether it keeps others waiting. */
export interface SlotHolder {
  /** Whether it still waits for a slot. */
  readonly waiting: boolean;
  /** When it was opened, and when it last had something to do: milliseconds of `performance.now()`. */
  readonly openedAt: number;
  readonly usedAt: number;
  /** Resolves when it is over. */
  readonly closed: Promise<unknown>;
}

/** A stream that waits this long is worth a word: a slot is given back in far less where all streams are ended. */
const WAIT_MS = 5000;

/**
 * The open streams of a guard. Says once, as a warning of the process, when one has waited long for a slot: streams
 * that nobody ends keep theirs, and the next ones would wait without a word.
 */
export class SlotWatch<S extends SlotHolder> {
  readonly #streams = new Set<S>();
  #timer: NodeJS.Timeout | undefined;
  #warned = false;

  add(stream: S): void {
    this.#streams.add(stream);
    void stream.closed.then(() => this.#remove(stream));
    if (stream.waiting) this.#lookLater();
  }

  [Symbol.iterator](): IterableIterator<S> {
    return this.#streams.values();
  }

  #remove(stream: S): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #lookLater(): void {
    if (this.#warned) return;
    this.#timer ??= setTimeout(() => this.#look(), WAIT_MS).unref();
  }

  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    const streams = [...this.#streams];
    const waiting = streams.filter((stream) => stream.waiting);
    if (waiting.length === 0) return;
    const longest = Math.max(...waiting.map(({ openedAt }) => now - openedAt));
    if (longest < WAIT_MS) {
      this.#lookLater();
      return;
    }
    this.#warned = true;
    const held = streams.filter((stream) => !stream.waiting);
    const since = Math.max(...held.map(({ openedAt }) => now - openedAt));
    const idle = Math.max(...held.map(({ usedAt }) => now - usedAt));
    process.emitWarning(
      `${waiting.length} of a guard's streams wait for a slot, one for ${seconds(longest)}. All ${held.length} slots are ` +
        `held, one for ${seconds(since)}, one by a stream that had nothing to do for ${seconds(idle)}. A stream keeps ` +
        "its slot until end() or close(); one of guard.moderate until it was read to its end, or return(). End the " +
        "streams you are done with, raise maxStreams, or have idle ones closed: loadGuard(model, { idleMs }).",
      { type: "Qwen3GuardWarning", code: "QWEN3GUARD_SLOTS_HELD" },
    );
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
