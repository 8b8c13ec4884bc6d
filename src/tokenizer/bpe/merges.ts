import { CheckpointError } from "../../errors.js";
import { AhoCorasick } from "../aho-corasick.js";
import { BYTE_LETTERS } from "./byte-alphabet.js";
import { PairTable } from "./pair-table.js";

/**
 * A byte-level BPE vocabulary, laid out to tell without encoding anything whether BPE leaves two tokens standing
 * side by side.
 *
 * BPE merges, again and again, the leftmost adjacent pair of the lowest rank. The merges inside a stretch of
 * bytes happen in the same order whatever surrounds it, until a merge crosses the stretch's border. So a token
 * sequence is what BPE makes of its bytes exactly if it makes each pair of neighbours of theirs, which `apart`
 * decides from how the two tokens were built.
 *
 * That needs every token to have one way of being built, from tokens of lower ranks, so that merges happen in
 * order of rank. Qwen's vocabularies are like that; the constructor throws CheckpointError
 * (TOKENIZER_UNSUPPORTED) for one that is not.
 */
export class Merges {
  /** All tokens that BPE can make. */
  readonly tree: AhoCorasick;
  /** Bytes of the longest. */
  readonly longest: number;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #length: Uint16Array;
  readonly #intact: Uint8Array;
  readonly #pairs: PairTable;

  /** `vocabulary`: token → id, `rules`: the pairs that merge, by rank, both in the byte alphabet. */
  constructor(
    vocabulary: ReadonlyMap<string, number>,
    rules: readonly (readonly string[])[],
    source: string,
  ) {
    let size = 0;
    let bytes = 0;
    vocabulary.forEach((id, token) => {
      if (id >= size) size = id + 1;
      bytes += token.length;
    });
    this.#left = new Int32Array(size).fill(-1);
    this.#right = new Int32Array(size).fill(-1);
    this.#rank = new Int32Array(size).fill(-1);
    this.#length = new Uint16Array(size);
    this.#intact = new Uint8Array(size);
    this.#pairs = new PairTable(rules.length);
    this.tree = new AhoCorasick(rules.length * 2, bytes + 1);
    const nodes = new Int32Array(size);

    const unsupported = (what: string): CheckpointError =>
      new CheckpointError(
        "TOKENIZER_UNSUPPORTED",
        `${source} ${what}. Use the byte-level BPE tokenizer that comes with Qwen3Guard-Stream.`,
      );
    for (const letter of BYTE_LETTERS) {
      const id = vocabulary.get(letter);
      if (id === undefined) throw unsupported(`has no token "${letter}", a byte of its own`);
      nodes[id] = this.tree.add(id, this.tree.root, letter);
      this.#length[id] = 1;
      this.#intact[id] = 1;
    }
    let longest = 1;
    // Two hundred thousand times, and nothing of it is compiled yet: without iterators and arrays it takes half as long.
    for (let rank = 0; rank < rules.length; rank++) {
      const left = rules[rank][0];
      const right = rules[rank][1];
      const a = vocabulary.get(left);
      const b = vocabulary.get(right);
      const merged = vocabulary.get(left + right);
      if (a === undefined || b === undefined || merged === undefined) {
        throw unsupported(`merges "${left}" and "${right}", which its vocabulary does not hold`);
      }
      if (this.#length[a] === 0 || this.#length[b] === 0 || this.#length[merged] > 0) {
        throw unsupported(`builds "${left + right}" in two ways or of tokens of later merges`);
      }
      nodes[merged] = this.tree.add(merged, nodes[a], right);
      const length = this.#length[a] + right.length;
      if (length > longest) longest = length;
      this.#length[merged] = length;
      this.#left[merged] = a;
      this.#right[merged] = b;
      this.#rank[merged] = rank;
      this.#pairs.add(a, b, merged);
    }
    this.longest = longest;
  }

  /** Length of a token in bytes. */
  lengthOf(token: number): number {
    return this.#length[token];
  }

  /** Whether BPE makes this one token of its own bytes: it may never get to a token whose parts are torn apart. */
  intact(token: number): boolean {
    if (this.#intact[token] === 0) {
      const left = this.#left[token];
      const right = this.#right[token];
      const whole = this.intact(left) && this.intact(right) && !this.#merge(left, right, this.#rank[token]);
      this.#intact[token] = whole ? 1 : 2;
    }
    return this.#intact[token] === 1;
  }

  /** Whether BPE leaves two intact tokens as they are when the bytes of `b` follow those of `a`. */
  apart(a: number, b: number): boolean {
    return !this.#merge(a, b, -1);
  }

  /**
   * Whether a merge crosses the border between `a` and `b`, the one of rank `except` aside. Goes backwards
   * through their making: at each moment one part of `a` touched one part of `b`; each part came to be by its own
   * rank's merge and went into a larger one at `aGone`, `bGone`. A pair of equal rank further left goes first.
   */
  #merge(a: number, b: number, except: number): boolean {
    let aGone = Number.POSITIVE_INFINITY;
    let bGone = Number.POSITIVE_INFINITY;
    for (;;) {
      const merged = this.#pairs.get(a, b);
      if (merged !== -1) {
        const rank = this.#rank[merged];
        if (rank !== except && rank < aGone && rank <= bGone) return true;
      }
      const aRank = this.#rank[a];
      const bRank = this.#rank[b];
      if (aRank === -1 && bRank === -1) return false;
      if (aRank > bRank) {
        aGone = aRank;
        a = this.#right[a];
      } else {
        bGone = bRank;
        b = this.#left[b];
      }
    }
  }
}
