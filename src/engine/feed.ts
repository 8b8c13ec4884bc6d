import { ContextLengthError, type GuardError, InputError } from "../errors.js";
import type { Logits, LogitsReader } from "./logits.js";
import type { SlotContent } from "./prefix-cache.js";
import type { SequenceLimits } from "./sequence.js";

/** Tokens of a sequence that were fed together. */
export class Feed {
  /** Position of the first id. Below the end of what came before, it is a rollback. */
  readonly at: number;
  readonly ids: readonly number[];
  readonly read: LogitsReader;
  /** Positions whose logits are wanted, ascending; null: of all. */
  readonly reads: readonly number[] | null;
  readonly done: Promise<void>;
  resolve!: () => void;
  reject!: (error: Error) => void;
  /** How many of the ids are in the cache. */
  taken = 0;
  /** How many of `reads` are behind it. */
  passed = 0;
  /** How many of `reads` were given; more than `passed` where some were known before these tokens ran. */
  given = 0;

  constructor(at: number, ids: readonly number[], read: LogitsReader, reads: readonly number[] | null) {
    this.at = at;
    this.ids = ids;
    this.read = read;
    this.reads = reads;
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  get end(): number {
    return this.at + this.ids.length;
  }

  /** Position behind the last whose logits are wanted and were not given; null where there is none. */
  get wanted(): number | null {
    if (this.reads === null) return this.taken < this.ids.length ? this.end : null;
    return this.given < this.reads.length ? this.reads[this.reads.length - 1] + 1 : null;
  }

  /** Whether a position is the next of `reads`. */
  isAt(position: number): boolean {
    return this.reads?.[this.passed] === position;
  }

  /** Passes a position, and gives what the model says there if that is wanted and was not given. */
  pass(logits: Logits, index: number, position: number, place: number): void {
    if (this.reads !== null) {
      if (!this.isAt(position)) return;
      if (this.passed++ < this.given) return;
      this.given = this.passed;
    }
    this.read(logits, index, position, place);
  }

  /** Begins with what the cache holds up to a position. */
  skip(length: number, logits: ReadonlyMap<number, Logits>): void {
    const { at, reads } = this;
    this.taken = length - at;
    if (reads === null) return;
    for (this.passed = 0; reads[this.passed] < length; this.passed++) {
      const position = reads[this.passed];
      if (position < at || this.passed < this.given) continue;
      this.given = this.passed + 1;
      this.read(logits.get(position) as Logits, 0, position, 0);
    }
  }

  /** Gives what is known of the positions that are wanted next. @returns whether there was any */
  foretell({ ids, logits }: SlotContent): boolean {
    const { reads } = this;
    const before = this.given;
    while (reads && reads[this.given] < ids.length) {
      const position = reads[this.given];
      const known = logits.get(position);
      if (!known) break;
      this.given++;
      this.read(known, 0, position, 0);
    }
    return this.given > before;
  }

  /** Gives what the model says at a position, if that is wanted next, ahead of the run that brings it there. */
  give(logits: Logits, index: number, position: number, place: number): void {
    if (this.reads?.[this.given] !== position) return;
    this.given++;
    this.read(logits, index, position, place);
  }
}

/** What keeps tokens from going to a sequence, at a position; null where nothing does. */
export function mistakeIn(
  ids: readonly number[],
  at: number,
  { maxTokens, vocabSize }: SequenceLimits,
): GuardError | null {
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
