import { byteAt } from "./bpe/byte-alphabet.js";
import { PairTable } from "./bpe/pair-table.js";

/**
 * All tokens as a tree of their bytes, to follow bytes as they come: a node stands for the longest end of the
 * bytes so far that begins a token, the root for none. From a node one gets to the shorter ends that do, and so
 * to every token that ends or is under way here.
 */
export class AhoCorasick {
  readonly root = 0;
  #size = 1;
  readonly #edges: PairTable;
  /** By node; a 0 in `#token` and `#link` is for none and for not known yet, others count from 1. */
  readonly #token: Int32Array;
  readonly #link: Int32Array;
  readonly #parent: Int32Array;
  readonly #byte: Uint8Array;
  readonly #depth: Uint16Array;

  /** `nodes`: about how many nodes there will be; `limit`: at most (memory that is not used costs nothing). */
  constructor(nodes: number, limit: number) {
    this.#edges = new PairTable(nodes);
    this.#token = new Int32Array(limit);
    this.#link = new Int32Array(limit);
    this.#parent = new Int32Array(limit);
    this.#byte = new Uint8Array(limit);
    this.#depth = new Uint16Array(limit);
  }

  /** Adds a token: the bytes that lead to `node` and those of `more`, in the byte alphabet. Returns its node. */
  add(token: number, node: number, more: string): number {
    for (let i = 0; i < more.length; i++) {
      const byte = byteAt(more, i);
      const next = this.#edges.obtain(node, byte, this.#size);
      if (next === this.#size) {
        this.#size++;
        this.#parent[next] = node;
        this.#byte[next] = byte;
        this.#depth[next] = this.#depth[node] + 1;
      }
      node = next;
    }
    this.#token[node] = token + 1;
    return node;
  }

  /** The node one byte on. Every byte must be a token, so that there is one. */
  step(node: number, byte: number): number {
    let next = this.#edges.get(node, byte);
    while (next === -1) {
      node = this.suffixLink(node);
      next = this.#edges.get(node, byte);
    }
    return next;
  }

  /** The next shorter end of the same bytes that begins a token; the root is the last. */
  suffixLink(node: number): number {
    if (this.#link[node] === 0) {
      const parent = this.#parent[node];
      const link = parent === this.root ? this.root : this.step(this.suffixLink(parent), this.#byte[node]);
      this.#link[node] = link + 1;
    }
    return this.#link[node] - 1;
  }

  /** How many bytes lead to this node. */
  depth(node: number): number {
    return this.#depth[node];
  }

  /** The token whose bytes lead to this node, -1 where they are but the beginning of others. */
  tokenAt(node: number): number {
    return this.#token[node] - 1;
  }
}
