import { byteAt } from "./byte-alphabet.js";

/** The bytes of all tokens, back to back. */
export class Vocabulary {
  /** Highest id + 1. */
  readonly size: number;
  /** Bytes of the longest token. */
  readonly longest: number;
  readonly #bytes: Uint8Array;
  readonly #ends: Uint32Array;
  readonly #starts: Uint32Array;

  /** `tokens`: written in the byte alphabet; `added`: as they are. Both token → id. */
  constructor(tokens: ReadonlyMap<string, number>, added: ReadonlyMap<string, number>) {
    const utf8 = new TextEncoder();
    let size = 0;
    let bytes = 0;
    for (const [token, id] of [...tokens, ...added]) {
      size = Math.max(size, id + 1);
      bytes += token.length * 3;
    }
    const all = new Uint8Array(bytes);
    this.size = size;
    this.#starts = new Uint32Array(size);
    this.#ends = new Uint32Array(size);
    let end = 0;
    for (const [token, id] of tokens) {
      this.#starts[id] = end;
      for (let i = 0; i < token.length; i++) all[end++] = byteAt(token, i);
      this.#ends[id] = end;
    }
    for (const [token, id] of added) {
      this.#starts[id] = end;
      end += utf8.encodeInto(token, all.subarray(end)).written;
      this.#ends[id] = end;
    }
    this.#bytes = all.slice(0, end);
    this.longest = this.#ends.reduce((longest, to, id) => Math.max(longest, to - this.#starts[id]), 0);
  }

  /** The bytes of a token, null when no token has this id. */
  bytesOf(id: number): Uint8Array | null {
    // A string or bigint of digits would find its place in the table too.
    if (typeof id !== "number" || !(this.#ends[id] > this.#starts[id])) return null;
    return this.#bytes.subarray(this.#starts[id], this.#ends[id]);
  }
}
