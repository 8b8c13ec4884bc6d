/** Response text with a tag that comes out with it. */
export interface TextPart<T> {
  kind: "text";
  text: string;
  tag?: T;
  /** Read by the guard as part of the response, but neither judged nor passed on. */
  silent?: boolean;
  /** Its reader has it already: read and judged with what goes on from it, but not passed on. */
  again?: boolean;
  /** What its reader gets in events of its own, such as a tool's call. */
  beside?: boolean;
}

/** Response ids of the guard's own tokenizer. */
export interface IdsPart {
  kind: "ids";
  ids: readonly number[];
}

/** Something between text that passes as it is, in its place. */
export interface ItemPart<T> {
  kind: "item";
  item: T;
  /** The text before it is complete: it is settled at once, so that the item need not wait for more. */
  boundary?: boolean;
  /** It tells how the text ended: it waits for the verdict on all of it, also where text leaves at once. */
  ends?: boolean;
}

export type Part<T> = TextPart<T> | IdsPart | ItemPart<T>;

/** What an item counts for among units of text. */
const ITEM_WEIGHT = 64;

/** In UTF-16 units, or ids. */
export function lengthOf<T>(part: Part<T>): number {
  return part.kind === "text" ? part.text.length : part.kind === "ids" ? part.ids.length : 0;
}

/** What a part counts for where so much may be under way. */
export function weightOf<T>(part: Part<T>): number {
  return part.kind === "item" ? ITEM_WEIGHT : lengthOf(part);
}

/** Parts that wait, in order. */
export class PartQueue<T> {
  readonly #parts: Part<T>[] = [];
  #weight = 0;

  get size(): number {
    return this.#parts.length;
  }

  get weight(): number {
    return this.#weight;
  }

  /** In UTF-16 units, or ids. */
  get length(): number {
    return this.#parts.reduce((sum, part) => sum + lengthOf(part), 0);
  }

  push(part: Part<T>): void {
    this.#parts.push(part);
    this.#weight += weightOf(part);
  }

  /** The next part; of a long one no more than so much text, or so many ids. */
  take(mostText = Number.POSITIVE_INFINITY, mostIds = mostText): Part<T> | undefined {
    const part = this.#parts[0];
    if (!part) return undefined;
    let taken = part;
    if (part.kind === "text" && part.text.length > mostText) {
      this.#parts[0] = { ...part, text: part.text.slice(mostText) };
      taken = { ...part, text: part.text.slice(0, mostText) };
    } else if (part.kind === "ids" && part.ids.length > mostIds) {
      this.#parts[0] = { ...part, ids: part.ids.slice(mostIds) };
      taken = { ...part, ids: part.ids.slice(0, mostIds) };
    } else this.#parts.shift();
    this.#weight -= weightOf(taken);
    return taken;
  }

  /** Removes everything and returns it. */
  takeAll(): Part<T>[] {
    this.#weight = 0;
    return this.#parts.splice(0);
  }

  [Symbol.iterator](): IterableIterator<Part<T>> {
    return this.#parts.values();
  }
}

/** What a reader got ahead of its turn, and does not get again when its turn comes. */
export class Ahead<T> {
  /** UTF-16 units or ids, and items. */
  #units = 0;
  #items = 0;

  add(part: Part<T>): void {
    if (part.kind === "item") this.#items++;
    else if (part.kind === "ids" || (!part.silent && !part.again)) this.#units += lengthOf(part);
  }

  /** What is left of a part whose turn has come. */
  rest(part: Part<T>): Part<T> | null {
    if (part.kind === "item") return this.#items > 0 && this.#items-- ? null : part;
    if (part.kind === "text" && (part.silent || part.again)) return null;
    const had = Math.min(this.#units, lengthOf(part));
    this.#units -= had;
    if (had === 0) return part;
    if (had === lengthOf(part)) return null;
    return part.kind === "text"
      ? { ...part, text: part.text.slice(had) }
      : { ...part, ids: part.ids.slice(had) };
  }
}

const HALF_AT_END = /[\ud800-\udbff]$/;

/**
 * What goes out to a reader: without what is the guard's alone, and in whole characters. Half of one, with which a source
 * may end a chunk, goes with its other half, as readers encode each text alone.
 */
export class Outbox<T> {
  readonly #queue = new PartQueue<T>();
  #half: TextPart<T> | null = null;

  /** Of what is ready to be read. */
  get size(): number {
    return this.#queue.size;
  }

  get weight(): number {
    return this.#queue.weight;
  }

  get length(): number {
    return this.#queue.length;
  }

  push(part: Part<T>): void {
    if (part.kind !== "text") {
      this.pushHalf();
      this.#queue.push(part);
    } else if (!part.silent && !part.again) {
      const whole = this.#wholeCharacters(part);
      if (whole.text !== "") this.#queue.push(whole);
    }
  }

  /** Lets half a character out by itself: nothing comes that belongs to it. */
  pushHalf(): void {
    if (this.#half) this.#queue.push(this.#half);
    this.#half = null;
  }

  take(): Part<T> | undefined {
    return this.#queue.take();
  }

  /** Drops what nobody has read yet. */
  clear(): void {
    this.#queue.takeAll();
    this.#half = null;
  }

  #wholeCharacters(part: TextPart<T>): TextPart<T> {
    if (this.#half && this.#half.tag !== part.tag) this.pushHalf();
    const text = (this.#half?.text ?? "") + part.text;
    const whole = HALF_AT_END.test(text) ? text.length - 1 : text.length;
    this.#half = whole < text.length ? { ...part, text: text.slice(whole) } : null;
    return text.length === part.text.length && !this.#half ? part : { ...part, text: text.slice(0, whole) };
  }
}
