import { GuardError } from "../errors.js";
import { normalize } from "../tokenizer/normalization.js";
import { wellFormed } from "../tokenizer/tokenizer.js";
import type { Span } from "./violation.js";

/** Response text with a tag that comes out with it. */
export interface TextPart<T> {
  kind: "text";
  text: string;
  tag?: T;
  /** Read by the guard as part of the response, but neither judged nor passed on. */
  silent?: boolean;
  /** Its reader has it already: read and judged with what goes on from it, but not passed on. */
  again?: boolean;
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
}

export type Part<T> = TextPart<T> | IdsPart | ItemPart<T>;

interface Stretch<T> {
  part: TextPart<T> | ItemPart<T>;
  /** Offset in the source where it ends. */
  end: number;
}

/** What has come and not gone yet. Offsets count from the response's beginning. */
export interface HoldBuffer<T> {
  /** Offset up to which all that came has been judged. */
  readonly judged: number;
  /** Whether that is all that came. */
  readonly complete: boolean;
  append(part: Part<T>): void;
  /** Takes a token whose verdict stands; returns `judged` after it. */
  judge(token: { text: string }): number;
  /** Removes everything up to an offset and returns it. */
  release(to: number): Part<T>[];
  /** Removes everything and returns it. */
  releaseAll(): Part<T>[];
  /** Whether all between two offsets is silent. */
  isSilent(start: number, end: number): boolean;
  /** The stretch between two offsets, as its source counts. */
  span(start: number, end: number): Span;
}

/**
 * Text between its source and its reader. Tokens are in NFC, the source need not be: each judged token is matched with
 * the source it stands for, and what is released are slices of the source.
 */
export class TextHoldBuffer<T> implements HoldBuffer<T> {
  #text = "";
  /** Offset of `#text`'s beginning. */
  #start = 0;
  #judged = 0;
  /** Judged token text, in NFC, that is not yet matched: part of a character that several tokens make up. */
  #unmatched = "";
  readonly #stretches: Stretch<T>[] = [];
  /** What does not come out; `again` where it is judged all the same. */
  readonly #silent: { start: number; end: number; again: boolean }[] = [];
  #cluster = { offset: -1, until: -1, length: 0, form: "" };

  get judged(): number {
    return this.#judged;
  }

  get complete(): boolean {
    return this.#judged === this.#end && this.#unmatched === "";
  }

  get #end(): number {
    return this.#start + this.#text.length;
  }

  append(part: Part<T>): void {
    if (part.kind === "ids") throw new GuardError("INTERNAL", "ids among text");
    if (part.kind === "text") {
      const start = this.#end;
      this.#text += part.text;
      if (part.silent || part.again) {
        this.#silent.push({ start, end: this.#end, again: part.again === true });
      }
    }
    this.#stretches.push({ part, end: this.#end });
  }

  judge(token: { text: string }): number {
    this.#unmatched += token.text;
    while (this.#unmatched !== "") {
      const at = this.#judged - this.#start;
      // Nearly always the source is in NFC as it is.
      if (this.#text.startsWith(this.#unmatched, at)) {
        this.#judged += this.#unmatched.length;
        this.#unmatched = "";
        break;
      }
      if (at >= this.#text.length) break;
      const cluster = this.#clusterAt(at);
      if (!this.#unmatched.startsWith(cluster.form)) break;
      this.#judged += cluster.length;
      this.#unmatched = this.#unmatched.slice(cluster.form.length);
    }
    return this.#judged;
  }

  release(to: number): Part<T>[] {
    const parts: Part<T>[] = [];
    const stretches = this.#stretches;
    let done = 0;
    let from = this.#start;
    for (; done < stretches.length && stretches[done].end <= to; done++) {
      const { part, end } = stretches[done];
      if (part.kind === "item") parts.push(part);
      else this.#push(parts, part, from, end);
      from = end;
    }
    const cut = stretches[done]?.part;
    if (cut?.kind === "text" && from < to) {
      this.#push(parts, cut, from, to);
      from = to;
    }
    stretches.splice(0, done);
    this.#text = this.#text.slice(from - this.#start);
    this.#start = from;
    return parts;
  }

  releaseAll(): Part<T>[] {
    this.#judged = Math.max(this.#judged, this.#end);
    return this.release(this.#end);
  }

  isSilent(start: number, end: number): boolean {
    // A token that completes no character belongs to the one that begins there.
    const to = Math.max(end, start + 1);
    return this.#silent.some((stretch) => !stretch.again && stretch.start <= start && to <= stretch.end);
  }

  span(start: number, end: number): Span {
    let text = start < this.#start ? null : "";
    for (let at = start; text !== null && at < end; ) {
      const silent = this.#silent.find((stretch) => stretch.end > at);
      const to = Math.min(end, silent?.start ?? end);
      text += this.#text.slice(at - this.#start, Math.max(at, to) - this.#start);
      at = silent && silent.start < end ? silent.end : end;
    }
    return { start: this.#visible(start), end: this.#visible(end), text };
  }

  #visible(offset: number): number {
    let count = offset;
    for (const { start, end } of this.#silent) count -= Math.max(0, Math.min(end, offset) - start);
    return count;
  }

  /** The character at a place in the text with what joins it; kept, as its tokens come one by one. */
  #clusterAt(at: number): { length: number; form: string } {
    const offset = this.#start + at;
    if (this.#cluster.offset !== offset || this.#cluster.until !== this.#end) {
      const end = clusterEnd(this.#text, at);
      const form = normalize(wellFormed(this.#text.slice(at, end)));
      this.#cluster = { offset, until: this.#end, length: end - at, form };
    }
    return this.#cluster;
  }

  /** Adds a stretch's text, joined with what comes before under the same tag. */
  #push(parts: Part<T>[], { tag, silent, again }: TextPart<T>, from: number, to: number): void {
    if (silent || again || from === to) return;
    const text = this.#text.slice(from - this.#start, to - this.#start);
    const last = parts.at(-1);
    if (last?.kind === "text" && last.tag === tag) last.text += text;
    else parts.push({ kind: "text", text, tag });
  }
}

/** Ids between their source and their reader. */
export class IdsHoldBuffer<T> implements HoldBuffer<T> {
  readonly #ids: number[] = [];
  #start = 0;
  #judged = 0;

  get judged(): number {
    return this.#judged;
  }

  get complete(): boolean {
    return this.#judged === this.#start + this.#ids.length;
  }

  append(part: Part<T>): void {
    if (part.kind !== "ids") throw new GuardError("INTERNAL", "text among ids");
    for (const id of part.ids) this.#ids.push(id);
  }

  judge(): number {
    return ++this.#judged;
  }

  release(to: number): Part<T>[] {
    const ids = this.#ids.splice(0, to - this.#start);
    this.#start += ids.length;
    return ids.length > 0 ? [{ kind: "ids", ids }] : [];
  }

  releaseAll(): Part<T>[] {
    return this.release(this.#start + this.#ids.length);
  }

  isSilent(): boolean {
    return false;
  }

  span(start: number, end: number): Span {
    return { start, end, text: null };
  }
}

/** What NFC may join to the character before it. */
const JOINING = /[\p{M}\u1160-\u11ff]/u;

/** The end of the character at `at` with everything that NFC may join to it. */
function clusterEnd(source: string, at: number): number {
  let end = at + width(source, at);
  while (end < source.length && JOINING.test(String.fromCodePoint(source.codePointAt(end) as number))) {
    end += width(source, end);
  }
  return end;
}

function width(source: string, at: number): number {
  return (source.codePointAt(at) as number) > 0xffff ? 2 : 1;
}
