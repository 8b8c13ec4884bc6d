import type { GuardError } from "../errors.js";
import type { Feed } from "./feed.js";

/** What was fed to a sequence and is not in the cache yet, in the order in which it was fed. */
export class FeedQueue {
  readonly #feeds: Feed[] = [];

  get first(): Feed | undefined {
    return this.#feeds[0];
  }

  push(feed: Feed): void {
    this.#feeds.push(feed);
  }

  /** The first is done. */
  resolveFirst(): void {
    this.#feeds.shift()?.resolve();
  }

  rejectAll(reason: GuardError): void {
    for (const feed of this.#feeds.splice(0)) feed.reject(reason);
  }

  /** Number of tokens that follow `length` of them without a gap. */
  pending(length: number): number {
    let expected = length;
    for (const { at, taken, end } of this.#feeds) {
      if (at + taken !== expected) break;
      expected = end;
    }
    return expected - length;
  }

  /** Of these those up to the last whose logits are wanted; all of them where none are. */
  awaited(length: number): number {
    let [awaited, expected] = [length, length];
    for (const { at, taken, wanted, end } of this.#feeds) {
      if (at + taken !== expected) break;
      if (wanted !== null) awaited = wanted;
      expected = end;
    }
    return (awaited > length ? awaited : expected) - length;
  }

  /** Whether somebody waits for logits. */
  get isAwaited(): boolean {
    return this.#feeds.some(({ wanted }) => wanted !== null);
  }

  /** Of the next `count` tokens those from the first on whose logits are wanted. */
  asked(count: number): number {
    let before = 0;
    for (const { at, ids, taken, reads, passed } of this.#feeds) {
      const left = Math.min(ids.length - taken, count - before);
      const next = reads === null ? at + taken : reads[passed];
      if (next < at + taken + left) return count - before - (next - at - taken);
      before += left;
    }
    return 0;
  }

  /** Writes the next `count` ids to `target`. */
  copyIds(count: number, target: BigInt64Array, offset: number): void {
    let written = 0;
    for (const { ids, taken } of this.#feeds) {
      for (let i = taken; i < ids.length && written < count; i++) target[offset + written++] = BigInt(ids[i]);
      if (written === count) return;
    }
  }
}
