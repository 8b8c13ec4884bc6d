import { GuardError } from "../../errors.js";
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
export class PreToken {
  /** Index of this piece's first token in the stack it writes to. */
  readonly first: number;
  readonly #merges: Merges;
  /** `#last[n - #forgotten]`: the last token of the first n bytes. */
  #last: Int32Array;
  #forgotten = 0;
  #length = 0;
  /** Bytes up to where the tokens are known to stand: nobody asks for what lies before. */
  #stands = 0;
  /** Where the end of the bytes is in the tree of tokens. */
  #node: number;

  constructor(merges: Merges, first: number, shared?: Int32Array) {
    this.#merges = merges;
    this.first = first;
    this.#node = merges.tree.root;
    this.#last = shared ?? new Int32Array(16);
  }

  /** Bytes so far. */
  get length(): number {
    return this.#length;
  }

  /** A copy that may go its own way until this one goes on. */
  fork(): PreToken {
    const copy = new PreToken(this.#merges, this.first, this.#last);
    copy.#forgotten = this.#forgotten;
    copy.#length = this.#length;
    copy.#stands = this.#stands;
    copy.#node = this.#node;
    return copy;
  }

  append(byte: number): void {
    this.#node = this.#merges.tree.step(this.#node, byte);
    const before = this.#length++;
    if (this.#length - this.#forgotten === this.#last.length) this.#grow();
    // Most often the last token has just grown.
    const grown = before === 0 ? 1 : this.#merges.lengthOf(this.#lastAt(before)) + 1;
    let last = this.#find(grown);
    if (last === -1) last = this.#find();
    if (last === -1) throw impossible("No token ends here");
    this.#last[this.#length - this.#forgotten] = last;
  }

  /** The token, of this length if one is given, that can be the last; -1 when none can. */
  #find(length = 0): number {
    const merges = this.#merges;
    const tree = merges.tree;
    for (let node = this.#node; node !== tree.root; node = tree.suffixLink(node)) {
      const depth = tree.depth(node);
      if (length > 0 && depth !== length) {
        if (depth < length) return -1;
        continue;
      }
      const token = tree.tokenAt(node);
      if (token === -1 || !merges.intact(token)) continue;
      const start = this.#length - depth;
      if (start === 0 || merges.apart(this.#lastAt(start), token)) return token;
    }
    return -1;
  }

  /** Makes `stack`, from this piece's first token on, hold the tokens of the first `length` bytes. */
  write(stack: TokenStack, length = this.#length): void {
    const fresh: number[] = [];
    let end = length;
    for (;;) {
      while (stack.length > this.first && stack.topEnd > end) stack.pop();
      if (end === (stack.length > this.first ? stack.topEnd : 0)) break;
      fresh.push(end);
      end -= this.#merges.lengthOf(this.#lastAt(end));
    }
    for (let i = fresh.length - 1; i >= 0; i--) stack.push(this.#lastAt(fresh[i]), fresh[i]);
  }

  /**
   * A number of bytes whose tokens stand whatever comes: every token sequence for these bytes and more, or cut
   * off at `cut` bytes, has a border there. A later token can begin nowhere but where one is under way, or at the
   * end; that is where the ways back from all of these have met. -1 when that is too far to look for now.
   *
   * What lies before may be forgotten: later calls may cut where this one does, or no earlier than at the length now.
   */
  settled(cut = this.#length): number {
    const { tree } = this.#merges;
    const ends: number[] = [];
    for (let node = this.#node; node !== tree.root; node = tree.suffixLink(node)) {
      ends.push(this.#length - tree.depth(node));
    }
    ends.push(this.#length);
    insert(ends, cut);
    for (let steps = 0; ends.length > 1; steps++) {
      if (steps === PATIENCE) return -1;
      const end = ends.pop() as number;
      insert(ends, end - this.#merges.lengthOf(this.#lastAt(end)));
    }
    this.#stands = ends[0];
    return ends[0];
  }

  #lastAt(length: number): number {
    if (length < this.#forgotten) throw impossible("What stands has changed");
    return this.#last[length - this.#forgotten];
  }

  /** Makes room for as many bytes again as must be remembered; a fork goes on with what it shares. */
  #grow(): void {
    const from = Math.max(this.#forgotten, Math.min(this.#stands, this.#length - this.#merges.longest));
    const kept = this.#last.subarray(from - this.#forgotten);
    this.#last = new Int32Array(Math.max(16, kept.length * 2));
    this.#last.set(kept);
    this.#forgotten = from;
  }
}

function impossible(what: string): GuardError {
  return new GuardError("INTERNAL", `${what}, which cannot be. Please report the text as a bug.`);
}

/** Puts a number in its place among ascending ones, unless it is there. */
function insert(sorted: number[], value: number): void {
  let at = sorted.length;
  while (at > 0 && sorted[at - 1] > value) at--;
  if (at === 0 || sorted[at - 1] !== value) sorted.splice(at, 0, value);
}
