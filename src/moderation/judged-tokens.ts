import { IncrementalDecoder } from "../tokenizer/incremental.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type Decision, decide, type Judged } from "./decision.js";

/** No UTF-8 character spans more tokens than this: that many tokens back, a decoder finds its feet again. */
const LONGEST_CHARACTER = 4;

/** A response's tokens that were judged so far, and the text that they make. */
export class JudgedTokens {
  readonly #tokenizer: Tokenizer;
  #decoder: IncrementalDecoder;
  readonly #ids: number[] = [];
  readonly #judged: Judged[] = [];

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#decoder = new IncrementalDecoder(tokenizer);
  }

  get length(): number {
    return this.#ids.length;
  }

  /** Takes the token at an index, in place of all that were there. Returns the text that it completes. */
  take(index: number, tokenId: number, { risk, category }: Judged): string {
    this.rewind(index);
    this.#ids.push(tokenId);
    this.#judged.push({ risk, category });
    return this.#decoder.push(tokenId);
  }

  /** Forgets the tokens from `length` on. */
  rewind(length: number): void {
    if (length >= this.#ids.length) return;
    this.#ids.length = length;
    this.#judged.length = length;
    this.#decoder = new IncrementalDecoder(this.#tokenizer);
    for (const id of this.#ids.slice(-LONGEST_CHARACTER)) this.#decoder.push(id);
  }

  /** The text they make, without control tokens. */
  get text(): string {
    const control = new Set(this.#tokenizer.controlTokens.values());
    return this.#tokenizer.decode(this.#ids.filter((id) => !control.has(id)));
  }

  /** @param safeLabel the name of the safe label in the checkpoint's map */
  decide(safeLabel: string): Decision {
    return decide(this.#judged, safeLabel);
  }
}
