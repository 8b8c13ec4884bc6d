import { ClosedError } from "../errors.js";
import { PreTokenizer } from "./bpe/pre-tokenizer.js";
import { NfcStream } from "./normalization/nfc-stream.js";
import { normalize } from "./normalization/normalize.js";
import { slicesOf } from "./slices.js";
import { type Tokenizer, wellFormed } from "./tokenizer.js";

/** What more text did to the ids: those before `from` stand, `ids` replace all others. */
export interface Revision {
  /** Index of the first id that is new or another. */
  from: number;
  /** All ids from index `from` on. */
  ids: number[];
  /** How many of all ids, counted from the end, later text could still change. 0 after `end()`. */
  provisional: number;
}

/**
 * Encodes content (a response) as its text comes, in chunks of any size. After each `push` the ids are
 * `tokenizer.encode` of all text so far (less half of a surrogate pair, which waits for the other), after `end()`
 * of the whole text, however it was cut.
 *
 * A push costs what its chunk does, not what came before: only the last character that NFC could still change, with its
 * marks, and the beginning of an added token are read again, BPE goes on where it was.
 */
export class IncrementalEncoder {
  readonly #tokenizer: Tokenizer;
  /** Half of a surrogate pair at the end of the last chunk. */
  #half = "";
  /** Text that may be the beginning of an added token. */
  #held = "";
  readonly #composition = new NfcStream();
  /** All text that is certain, and on top of it what follows, as if nothing came after. */
  readonly #certain: PreTokenizer;
  #ahead: PreTokenizer;
  readonly #ids: number[] = [];
  #ended = false;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#certain = new PreTokenizer(tokenizer.merges);
    this.#ahead = this.#certain.fork();
  }

  /**
   * Adds text. Throws ClosedError (ENCODER_ENDED) after `end()`, InputError (MARKS_TOO_MANY); it is of no use after that.
   */
  push(chunk: string): Revision {
    const text = this.#half + chunk;
    const last = text.charCodeAt(text.length - 1);
    this.#half = last >= 0xd800 && last < 0xdc00 ? text.slice(-1) : "";
    return this.#take(this.#half === "" ? text : text.slice(0, -1));
  }

  /** Adds text as `push` does, in steps of a slice. */
  *pushInSlices(chunk: string): Generator<void, Revision> {
    let from = this.#ids.length;
    let provisional = 0;
    for (const slice of slicesOf(chunk)) {
      const revision = this.push(slice);
      from = Math.min(from, revision.from);
      provisional = revision.provisional;
      yield;
    }
    return { from, ids: this.#ids.slice(from), provisional };
  }

  /** Ends the text. Throws ClosedError (ENCODER_ENDED) when it has ended already. */
  end(): Revision {
    const rest = this.#half;
    this.#half = "";
    const revision = this.#take(rest, true);
    this.#ended = true;
    return { ...revision, provisional: 0 };
  }

  #take(text: string, complete = false): Revision {
    if (this.#ended) {
      throw new ClosedError("ENCODER_ENDED", "This text has ended. Use a new encoder for another text.");
    }
    const shared = this.#ahead.stack.shared;
    const anew = this.#read(this.#held + wellFormed(text), complete);
    const low = this.#ahead.stack.takeLow();
    return this.#revise(anew ? Math.min(low, shared, this.#certain.stack.takeLow()) : low);
  }

  /** Brings `#certain` and `#ahead` up to date; says whether `#ahead` had to begin anew. */
  #read(text: string, complete: boolean): boolean {
    const composition = this.#composition;
    const hadHeld = this.#held !== "";
    const stop = this.#tokenizer.contentTokens.split(
      text,
      complete,
      (plain) => {
        const closed = composition.push(plain);
        if (closed !== "") this.#certain.feed(closed);
      },
      (token) => {
        this.#certain.feed(composition.close());
        this.#certain.interrupt(token);
      },
    );
    this.#held = text.slice(stop);
    if (complete) this.#certain.feed(composition.close());

    const grown = composition.takeGrown();
    if (grown !== null && this.#held === "" && !hadHeld) {
      if (grown !== "") this.#ahead.feed(grown);
      return false;
    }
    this.#ahead = this.#certain.fork();
    let tail = composition.open;
    this.#tokenizer.contentTokens.split(
      this.#held,
      true,
      (plain) => {
        tail += plain;
      },
      (token) => {
        this.#ahead.feed(normalize(tail));
        this.#ahead.interrupt(token);
        tail = "";
      },
    );
    this.#ahead.feed(normalize(tail));
    return true;
  }

  #revise(unchanged: number): Revision {
    const stack = this.#ahead.stack;
    let from = unchanged;
    while (from < this.#ids.length && from < stack.length && stack.idAt(from) === this.#ids[from]) from++;
    this.#ids.length = from;
    for (let i = from; i < stack.length; i++) this.#ids.push(stack.idAt(i));
    return { from, ids: this.#ids.slice(from), provisional: stack.length - this.#certain.settled() };
  }
}

/** Turns ids into text as they come; text and `end()` together are `tokenizer.decode` of all ids. */
export class IncrementalDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /**
   * The text this token completes: "" while a character's bytes are still missing.
   * Throws InputError (TOKEN_INVALID) for an id the tokenizer does not have.
   */
  push(id: number): string {
    return this.#decoder.decode(this.#tokenizer.tokenBytes(id), { stream: true });
  }

  /** What an unfinished character at the end decodes to: U+FFFD, or "" when there is none. */
  end(): string {
    return this.#decoder.decode();
  }
}
