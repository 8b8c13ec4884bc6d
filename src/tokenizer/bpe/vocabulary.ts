import { bytesOf } from "./byte-alphabet.js";

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
    this.size = Math.max(largest(tokens), largest(added)) + 1;
    this.#starts = new Uint32Array(this.size);
    this.#ends = new Uint32Array(this.size);
    const utf8 = new TextEncoder();
    const addedBytes = [...added].map(([token, id]) => ({ id, bytes: utf8.encode(token) }));
    const written = bytesOf([...tokens.keys()].join(""));
    this.#bytes = new Uint8Array(addedBytes.reduce((sum, { bytes }) => sum + bytes.length, written.length));
    this.#bytes.set(written);
    let [end, longest] = [0, 0];
    const place = (id: number, length: number): void => {
      this.#starts[id] = end;
      end += length;
      this.#ends[id] = end;
      if (length > longest) longest = length;
    };
    tokens.forEach((id, token) => {
      place(id, token.length);
    });
    for (const { id, bytes } of addedBytes) {
      this.#bytes.set(bytes, end);
      place(id, bytes.length);
    }
    this.longest = longest;
  }

  /** The bytes of a token, null when no token has this id. */
  bytesOf(id: number): Uint8Array | null {
    // A string or bigint of digits would find its place in the table too.
    if (typeof id !== "number" || !(this.#ends[id] > this.#starts[id])) return null;
    return this.#bytes.subarray(this.#starts[id], this.#ends[id]);
  }
}

/** The largest id; -1 of no tokens. */
function largest(tokens: ReadonlyMap<string, number>): number {
  let largest = -1;
  for (const id of tokens.values()) if (id > largest) largest = id;
  return largest;
}
