import { ContextLengthError, GuardError, InputError, NumericError } from "../errors.js";
import type { ModelOutput } from "../model/outputs.js";
import { areFinite, type Logits, rowOf, tailOfAll, tailPlace } from "./logits.js";
import { type Prefix, type SlotContent, sharedLength } from "./prefix-cache.js";

/**
 * Called once for each token, in order, with the logits of the step that held it. `index` is the token's place in
 * the step's logits, `position` its place in the sequence, `place` where what is given for a run's last tokens alone lies,
 * or -1 where it is none of them. The arrays are reused: read them before returning.
 */
export type LogitsReader = (logits: Logits, index: number, position: number, place: number) => void;

export interface SequenceLimits {
  /** Tokens the sequence may hold. */
  maxTokens: number;
  vocabSize: number;
  outputs: readonly ModelOutput[];
}

/** What a sequence tells its scheduler. */
export interface SequenceOwner {
  wake(sequence: Sequence): void;
  drop(sequence: Sequence): void;
}

interface Feed {
  /** Position of the first id. Below the end of what came before, it is a rollback. */
  at: number;
  ids: readonly number[];
  taken: number;
  read: LogitsReader;
  /** Positions whose logits are wanted, ascending; null: of all. */
  reads: readonly number[] | null;
  /** How many of them were read. */
  done: number;
  resolve: () => void;
  reject: (error: Error) => void;
}

/**
 * One stream's tokens: what is in the cache, and what waits to go there. Feeds run in the order they were made; those
 * that follow each other without a gap may share a step.
 */
export class Sequence {
  /** Row of the KV cache; null while it waits for one, or is closed. */
  slot: number | null = null;
  /** Tokens in the cache. */
  length = 0;
  /** Whether it gives its slot, and itself, up when another waits for one. */
  yields = false;
  /** Whether it runs only while nothing else does, and gives itself up as soon as something else is to. */
  readonly background: boolean;
  /** Tokens of feeds with `reads` that the cache held already, and those that ran. */
  reused = 0;
  prefilled = 0;
  /** Whose it is: what was read under the same key need not be read again. null: it shares nothing. */
  readonly key: string | null;
  /** What it begins with, once that has been fed. */
  prefix: Prefix | null = null;
  readonly limits: SequenceLimits;
  readonly #owner: SequenceOwner;
  readonly #tail: number;
  readonly #feeds: Feed[] = [];
  /** The ids in its row of the cache, `length` of them. */
  #ids: number[] = [];
  /** How many of them were fed as a prefix, by itself or by who left them. */
  #prompt = 0;
  /** What the model gave at positions that were asked for. */
  #logits = new Map<number, Logits>();
  #end = 0;
  #failure: GuardError | null = null;

  constructor(limits: SequenceLimits, owner: SequenceOwner, key: string | null = null, background = false) {
    this.limits = limits;
    this.#owner = owner;
    this.#tail = tailOfAll(limits.outputs);
    this.key = key;
    this.background = background;
  }

  /** How much of what it begins with its row holds already. */
  get heldOfPrefix(): number {
    return this.prefix ? sharedLength(this.prefix.ids, this.#ids) : 0;
  }

  /** What it has in the cache: no copy. */
  get content(): SlotContent {
    const prompt = Math.min(this.#prompt, this.length);
    return { ids: this.#ids, prompt, logits: this.#logits, key: this.key ?? "" };
  }

  /** Its row holds this already, under the same key; before anything has run. */
  adopt({ ids, logits, prompt }: SlotContent): void {
    this.#ids = ids;
    this.#logits = logits;
    this.#prompt = prompt;
    this.length = ids.length;
  }

  /** Length once everything fed so far is in the cache. */
  get end(): number {
    return this.#end;
  }

  get failure(): GuardError | null {
    return this.#failure;
  }

  /**
   * Appends tokens, or with `at` replaces everything from that position on. Resolves when `read` has seen the last.
   *
   * @param reads the positions whose logits are wanted, ascending: tokens that the cache holds already are not run again
   *   then, as long as nothing is missing. Left out, all are wanted and all run.
   * @throws {InputError} TOKEN_INVALID
   * @throws {ContextLengthError} CONTEXT_EXCEEDED; the sequence stays as it was
   * @throws {GuardError} what closed the sequence, or made it fail
   */
  feed(
    ids: readonly number[],
    read: LogitsReader,
    at = this.#end,
    reads: readonly number[] | null = null,
  ): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const problem = this.#check(ids, at);
    if (problem) return Promise.reject(problem);
    if (reads && at === 0 && this.key !== null) this.prefix ??= { ids, key: this.key };
    this.#end = at + ids.length;
    return new Promise((resolve, reject) => {
      this.#feeds.push({ at, ids, taken: 0, read, reads, done: 0, resolve, reject });
      this.#owner.wake(this);
    });
  }

  /** Ends the sequence: what waits rejects with `reason`, and the slot is free as soon as no step is using it. */
  close(reason: GuardError): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#owner.drop(this);
    for (const feed of this.#feeds.splice(0)) feed.reject(reason);
  }

  /** Number of tokens that could go into the next step. Settles rollbacks and empty feeds on its way. */
  pending(): number {
    this.#settle();
    let count = 0;
    let expected = this.length;
    for (const feed of this.#feeds) {
      if (feed.at + feed.taken !== expected) break;
      count += feed.ids.length - feed.taken;
      expected = feed.at + feed.ids.length;
    }
    return count;
  }

  /** Of the pending tokens those up to the last whose logits are wanted; all of them where none are. */
  awaited(): number {
    let [count, awaited] = [0, 0];
    let expected = this.length;
    for (const { at, ids, taken, reads, done } of this.#feeds) {
      const from = at + taken;
      if (from !== expected) break;
      const last = reads === null ? at + ids.length - 1 : reads[reads.length - 1];
      if (reads === null || done < reads.length) awaited = count + last - from + 1;
      expected = at + ids.length;
      count += expected - from;
    }
    return awaited || count;
  }

  /** Writes the next `count` ids to `target`. They stay pending until `advance`. */
  copyIds(count: number, target: BigInt64Array, offset: number): void {
    let written = 0;
    for (const { ids, taken } of this.#feeds) {
      for (let i = taken; i < ids.length && written < count; i++) target[offset + written++] = BigInt(ids[i]);
      if (written === count) return;
    }
  }

  /** Takes the results of a step of `count` tokens a row, in which this sequence had row `row`. */
  advance(count: number, logits: Logits, row: number): void {
    const { outputs } = this.limits;
    for (let i = 0; i < count && !this.#failure; i++) {
      const feed = this.#feeds[0];
      const position = this.length;
      const index = row * count + i;
      const place = tailPlace(i, count, row, this.#tail);
      try {
        if (!areFinite(logits, outputs, index, place)) {
          throw new NumericError(
            "LOGITS_NOT_FINITE",
            `The model gave NaN or infinite logits at position ${position}, so there is no verdict. ` +
              "Check the checkpoint, or export it with --dtype fp32.",
          );
        }
        this.#read(feed, logits, index, position, place);
      } catch (error) {
        this.#fail(error);
        return;
      }
      this.#ids.push(feed.ids[feed.taken]);
      this.length++;
      feed.taken++;
      if (feed.taken === feed.ids.length) {
        this.#feeds.shift();
        feed.resolve();
        this.#settle();
      }
    }
  }

  /** Begins the next feed where nothing is left to run before it: rolls back, and resolves feeds without tokens. */
  #settle(): void {
    while (this.#feeds.length > 0) {
      const feed = this.#feeds[0];
      if (feed.taken === 0) this.#begin(feed);
      if (feed.taken < feed.ids.length || this.#failure) return;
      this.#feeds.shift();
      feed.resolve();
    }
  }

  /** Goes back to where a feed begins, or on to where the cache no longer holds what it brings. */
  #begin(feed: Feed): void {
    const { at, ids, reads } = feed;
    const known = reads ? this.#known(at, ids, reads) : 0;
    this.length = at + known;
    if (reads && at === 0) this.#prompt = ids.length;
    // What was read of tokens that are replaced means nothing any more.
    for (const position of this.#logits.keys()) if (position >= this.length) this.#logits.delete(position);
    this.#ids.length = this.length;
    feed.taken = known;
    this.reused += known;
    try {
      for (feed.done = 0; reads && reads[feed.done] < this.length; feed.done++) {
        const position = reads[feed.done];
        if (position >= at) feed.read(this.#logits.get(position) as Logits, 0, position, 0);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** How many of the ids the cache holds from `at` on, up to the first whose logits are wanted and were not kept. */
  #known(at: number, ids: readonly number[], reads: readonly number[]): number {
    let known = 0;
    while (known < ids.length && ids[known] === this.#ids[at + known]) known++;
    const missing = reads.find((position) => position >= at && !this.#logits.has(position)) ?? at + known;
    return Math.min(known, missing - at);
  }

  #read(feed: Feed, logits: Logits, index: number, position: number, place: number): void {
    const { reads } = feed;
    if (reads) {
      this.prefilled++;
      if (reads[feed.done] !== position) return;
      feed.done++;
      this.#logits.set(position, rowOf(logits, this.limits.outputs, index, place));
    }
    feed.read(logits, index, position, place);
  }

  #fail(error: unknown): void {
    this.close(
      error instanceof GuardError ? error : new GuardError("INTERNAL", String(error), { cause: error }),
    );
  }

  #check(ids: readonly number[], at: number): GuardError | null {
    const { maxTokens, vocabSize } = this.limits;
    if (at < 0 || at > this.#end) throw new RangeError(`position ${at} is not in 0 … ${this.#end}`);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
        return new InputError(
          "TOKEN_INVALID",
          `Token id ${String(id)} at index ${i} is not a whole number from 0 to ${vocabSize - 1}. ` +
            "Ids must come from this model's own tokenizer; for other models push text instead.",
        );
      }
    }
    if (at + ids.length > maxTokens) {
      return new ContextLengthError(
        "CONTEXT_EXCEEDED",
        `${at + ids.length} tokens do not fit in ${maxTokens}. Shorten the conversation, or raise maxTokens up to the model's context.`,
      );
    }
    return null;
  }
}
