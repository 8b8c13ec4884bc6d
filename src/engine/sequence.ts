import { GuardError } from "../errors.js";
import type { ModelOutput } from "../model/outputs.js";
import { Feed, mistakeIn } from "./feed.js";
import { FeedQueue } from "./feed-queue.js";
import { type Logits, type LogitsReader, requireFinite, rowOf, tailOfAll, tailPlace } from "./logits.js";
import { type Prefix, type SlotContent, sharedLength } from "./prefix-cache.js";

export interface SequenceLimits {
  /** Tokens the sequence may hold. */
  maxTokens: number;
  vocabSize: number;
  outputs: readonly ModelOutput[];
}

const NOTHING = { reused: 0, prefilled: 0 };

/** What a sequence tells its scheduler. */
export interface SequenceOwner {
  wake(sequence: Sequence): void;
  drop(sequence: Sequence): void;
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
  readonly #feeds = new FeedQueue();
  /** The ids in its row of the cache, `length` of them. */
  #ids: number[] = [];
  /** How many of them were fed as a prefix, by itself or by who left them. */
  #prompt = 0;
  /** What the model gave at positions that were asked for. */
  #logits = new Map<number, Logits>();
  /** Tokens counted of a beginning that was judged before anything of it ran. */
  #counted = NOTHING;
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
    if (at < 0 || at > this.#end) throw new RangeError(`position ${at} is not in 0 … ${this.#end}`);
    const problem = mistakeIn(ids, at, this.limits);
    if (problem) return Promise.reject(problem);
    if (reads && at === 0 && this.key !== null) this.prefix ??= { ids, key: this.key };
    this.#end = at + ids.length;
    const feed = new Feed(at, ids, read, reads);
    this.#feeds.push(feed);
    this.#owner.wake(this);
    return feed.done;
  }

  /** Ends the sequence: what waits rejects with `reason`, and the slot is free as soon as no step is using it. */
  close(reason: GuardError): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#owner.drop(this);
    this.#feeds.rejectAll(reason);
  }

  /** Number of tokens that could go into the next step. Settles rollbacks and empty feeds on its way. */
  pending(): number {
    this.#settle();
    return this.#feeds.pending(this.length);
  }

  /** Of the pending tokens those up to the last whose logits are wanted; all of them where none are. */
  awaited(): number {
    return this.#feeds.awaited(this.length);
  }

  /** Whether somebody waits for logits of what has been fed. */
  get isAwaited(): boolean {
    return this.#feeds.isAwaited;
  }

  /**
   * Gives what is wanted of its beginning and is known of others that begin alike, before anything of it runs.
   *
   * @param held what it begins with
   */
  foretell(held: SlotContent): void {
    this.#ahead((beginning) => {
      if (beginning.foretell(held)) this.#count(held.ids.length, 0);
    });
  }

  /**
   * Of what it begins with, tokens from a position up to the last whose logits are wanted and were not given; Infinity where some
   * are wanted ahead of that.
   */
  wantedBehind(position: number): number {
    const { wanted = null, reads, given = 0 } = this.#beginning ?? {};
    if (wanted === null) return 0;
    return (reads?.[given] ?? 0) < position ? Number.POSITIVE_INFINITY : wanted - position;
  }

  /** Its tokens from a position on, to run in the row of another that holds those ahead of it. */
  behind(position: number): Pick<Sequence, "length" | "copyIds"> {
    const ids = this.#beginning?.ids ?? [];
    return {
      length: position,
      copyIds: (count, target, offset) => {
        for (let i = 0; i < count; i++) target[offset + i] = BigInt(ids[position + i]);
      },
    };
  }

  /** Takes what a run gave for such tokens, from index `from` on. If the sequence goes on, they run again in its own row. */
  advanceAhead(position: number, count: number, logits: Logits, from = 0): void {
    this.#ahead((beginning) => {
      this.#count(position, count);
      for (let i = 0; i < count && !this.#failure; i++) {
        const place = tailPlace(i, count, 0, this.#tail);
        requireFinite(logits, this.limits.outputs, from + i, position + i, place);
        beginning.give(logits, from + i, position + i, place);
      }
    });
  }

  #ahead(give: (beginning: Feed) => void): void {
    try {
      if (this.#beginning) give(this.#beginning);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The feed that it begins with, as long as nothing of it has run. */
  get #beginning(): Feed | null {
    const feed = this.#feeds.first;
    return feed && this.length === 0 && feed.at === 0 && feed.ids === this.prefix?.ids ? feed : null;
  }

  /** Counts what was given ahead of the sequence's own runs, in place of what was counted of that before. */
  #count(reused: number, prefilled: number): void {
    this.#uncount();
    this.reused += reused;
    this.prefilled += prefilled;
    this.#counted = { reused, prefilled };
  }

  #uncount(): void {
    this.reused -= this.#counted.reused;
    this.prefilled -= this.#counted.prefilled;
    this.#counted = NOTHING;
  }

  /** Of its next `count` tokens those from the first on whose logits are wanted. */
  asked(count: number): number {
    return this.#feeds.asked(count);
  }

  /** Writes the next `count` ids to `target`. They stay pending until `advance`. */
  copyIds(count: number, target: BigInt64Array, offset: number): void {
    this.#feeds.copyIds(count, target, offset);
  }

  /**
   * Takes the results of a step of `count` tokens a row, in which this sequence had row `row`, and which asked for the logits of
   * each row's last `asked` tokens.
   */
  advance(count: number, logits: Logits, row: number, asked = count): void {
    const { outputs } = this.limits;
    const tail = Math.min(this.#tail, asked);
    for (let i = 0; i < count && !this.#failure; i++) {
      const feed = this.#feeds.first as Feed;
      const position = this.length;
      const index = row * count + i;
      const place = tailPlace(i, count, row, tail);
      try {
        requireFinite(logits, outputs, index, position, place);
        if (feed.reads) this.prefilled++;
        if (feed.reads && feed.isAt(position))
          this.#logits.set(position, rowOf(logits, outputs, index, place));
        feed.pass(logits, index, position, place);
      } catch (error) {
        this.#fail(error);
        return;
      }
      this.#ids.push(feed.ids[feed.taken]);
      this.length++;
      feed.taken++;
      if (feed.taken === feed.ids.length) {
        this.#feeds.resolveFirst();
        this.#settle();
      }
    }
  }

  /** Begins the next feed where nothing is left to run before it: rolls back, and resolves feeds without tokens. */
  #settle(): void {
    for (let feed = this.#feeds.first; feed; feed = this.#feeds.first) {
      if (feed.taken === 0) this.#begin(feed);
      if (feed.taken < feed.ids.length || this.#failure) return;
      this.#feeds.resolveFirst();
    }
  }

  /** Goes back to where a feed begins, or on to where the cache no longer holds what it brings. */
  #begin(feed: Feed): void {
    const { at, ids, reads } = feed;
    const known = reads ? this.#known(at, ids, reads) : 0;
    this.length = at + known;
    this.#uncount();
    if (reads && at === 0) this.#prompt = ids.length;
    // What was read of tokens that are replaced means nothing any more.
    for (const position of this.#logits.keys()) if (position >= this.length) this.#logits.delete(position);
    this.#ids.length = this.length;
    this.reused += known;
    try {
      feed.skip(this.length, this.#logits);
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

  #fail(error: unknown): void {
    this.close(
      error instanceof GuardError ? error : new GuardError("INTERNAL", String(error), { cause: error }),
    );
  }
}
