import { GuardError } from "../errors.js";
import type { Merges } from "./merges.js";
import type { TokenStack } from "./token-stack.js";

/** How many steps `settled` may walk before it gives up for now; real text needs a few. */
const PATIENCE = 1024;

/**
 * One pre-token while its bytes are still coming: BPE, byte by byte.
 *
 * The tokens of the first n bytes are those of some shorter beginning and one more, the last. So it is enough to
 * know the last token for each n: of all tokens that end at byte n it is the one that BPE leaves standing apart
 * from the last token of the bytes before it. Work for a byte is bounded by the number of tokens that could be
 * under way there (at most the longest token's length), whatever came before.
 */
export class Piece {
  /** Index of this piece's first token in the stack it writes to. */
  readonly first: number;
  readonly #merges: Merges;
  /** `#last[n]`: the last token of the first n bytes. */
  #last: Int32Array;
  #length = 0;
  /** Where a token could still be under way, ascending, and how far down the tree of tokens each has come. */
  #starts: number[] = [];
  #nodes: number[] = [];

  constructor(merges: Merges, first: number, shared?: Int32Array) {
    this.#merges = merges;
    this.first = first;
    this.#last = shared ?? new Int32Array(16);
  }

  /** Bytes so far. */
  get length(): number {
    return this.#length;
  }

  /** A copy that may go its own way until this one goes on. */
  fork(): Piece {
    const copy = new Piece(this.#merges, this.first, this.#last);
    copy.#length = this.#length;
    copy.#starts = this.#starts.slice();
    copy.#nodes = this.#nodes.slice();
    return copy;
  }

  append(byte: number): void {
    const merges = this.#merges;
    const starts = this.#starts;
    const nodes = this.#nodes;
    starts.push(this.#length);
    nodes.push(merges.root);
    const end = ++this.#length;
    if (end === this.#last.length) this.#grow();

    let last = -1;
    let kept = 0;
    for (let i = 0; i < starts.length; i++) {
      const node = merges.step(nodes[i], byte);
      if (node === -1) continue;
      const start = starts[i];
      starts[kept] = start;
      nodes[kept++] = node;
      if (last !== -1) continue;
      const token = merges.tokenAt(node);
      if (token === -1 || !merges.intact(token)) continue;
      if (start === 0 || merges.apart(this.#last[start], token)) last = token;
    }
    starts.length = kept;
    nodes.length = kept;
    if (last === -1) {
      throw new GuardError(
        "INTERNAL",
        "No token ends here, which cannot be. Please report the text as a bug.",
      );
    }
    this.#last[end] = last;
  }

  /** Makes `stack`, from this piece's first token on, hold the tokens of the first `length` bytes. */
  write(stack: TokenStack, length = this.#length): void {
    const fresh: number[] = [];
    let end = length;
    for (;;) {
      while (stack.length > this.first && stack.topEnd > end) stack.pop();
      if (end === (stack.length > this.first ? stack.topEnd : 0)) break;
      fresh.push(end);
      end -= this.#merges.lengthOf(this.#last[end]);
    }
    for (let i = fresh.length - 1; i >= 0; i--) stack.push(this.#last[fresh[i]], fresh[i]);
  }

  /**
   * A number of bytes whose tokens stand whatever comes: every token sequence for these bytes and more, or cut
   * off at `cut` bytes, has a border there. A later token can begin nowhere but where one is under way, or at the
   * end; that is where the ways back from all of these have met. -1 when that is too far to look for now.
   */
  settled(cut = this.#length): number {
    const ends = [...this.#starts];
    insert(ends, this.#length);
    insert(ends, cut);
    for (let steps = 0; ends.length > 1; steps++) {
      if (steps === PATIENCE) return -1;
      const end = ends.pop() as number;
      insert(ends, end - this.#merges.lengthOf(this.#last[end]));
    }
    return ends[0];
  }

  #grow(): void {
    const last = new Int32Array(this.#last.length * 2);
    last.set(this.#last);
    this.#last = last;
  }
}

/** Puts a number in its place among ascending ones, unless it is there. */
function insert(sorted: number[], value: number): void {
  let at = sorted.length;
  while (at > 0 && sorted[at - 1] > value) at--;
  if (at === 0 || sorted[at - 1] !== value) sorted.splice(at, 0, value);
}
