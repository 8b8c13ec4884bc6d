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
  readonly #closesIdle: boolean;
  #timer: NodeJS.Timeout | undefined;
  #warned = false;

  /** @param closesIdle whether streams that nobody uses are closed some time, so that to wait for a slot has a point */
  constructor(closesIdle = false) {
    this.#closesIdle = closesIdle;
  }

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

  /** Keeps the process alive meanwhile: one that does nothing but wait would otherwise end without a word. */
  #lookLater(): void {
    if (this.#warned && !this.#closesIdle) return;
    this.#timer ??= setTimeout(() => this.#look(), WAIT_MS);
  }

  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    const streams = [...this.#streams];
    const waiting = streams.filter((stream) => stream.waiting);
    if (waiting.length === 0) return;
    const longest = Math.max(...waiting.map(({ openedAt }) => now - openedAt));
    if (longest >= WAIT_MS && !this.#warned) this.#warn(streams, waiting, longest);
    this.#lookLater();
  }

  #warn(streams: S[], waiting: S[], longest: number): void {
    this.#warned = true;
    const now = performance.now();
    const held = streams.filter((stream) => !stream.waiting);
    const since = Math.max(...held.map(({ openedAt }) => now - openedAt));
    const idle = Math.max(...held.map(({ usedAt }) => now - usedAt));
    process.emitWarning(
      `Streams that wait for a slot of the guard: ${waiting.length}, the longest for ${seconds(longest)}. Slots held: ` +
        `${held.length}, the longest for ${seconds(since)}, and one by a stream that had nothing to do for ${seconds(idle)}. ` +
        "A stream keeps its slot until end() or close(); one of guard.moderate until it was read to its end, or return(). " +
        "End the streams you are done with, raise maxStreams, or have idle ones closed: loadGuard(model, { idleMs }).",
      { type: "Qwen3GuardWarning", code: "QWEN3GUARD_SLOTS_HELD" },
    );
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
