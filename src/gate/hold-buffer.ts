import { GuardError } from "../errors.js";
import { normalize } from "../tokenizer/normalization/normalize.js";
import { wellFormed } from "../tokenizer/tokenizer.js";
import type { ItemPart, Part, TextPart } from "./parts.js";
import type { Span } from "./violation.js";

interface Stretch<T> {
  part: TextPart<T> | ItemPart<T>;
  /** Offset in the source where it ends. */
  end: number;
}

/** What has come and not gone yet. */
export interface HoldBuffer<T> {
  /** How much of what came has been judged: UTF-16 units of text, or ids. */
  readonly judged: number;
  /** Whether that is all that came. */
  readonly complete: boolean;
  /** Whether all that came has gone. */
  readonly isEmpty: boolean;
  append(part: Part<T>): void;
  /** Takes the next token that has settled. Says whether its reader gets any of it. */
  judge(token: { text: string }): boolean;
  /**
   * Returns what the first tokens stand for, as far as it has not gone yet.
   *
   * @param tokens how many, of those that were judged
   * @param ahead tokens behind all those that were judged: what they stand for goes as well, though they may still change
   */
  release(tokens: number, ahead?: readonly { text: string }[]): Part<T>[];
  /**
   * How many tokens, of those that are clear, may go so that the newest so many stay; less where their text would end in
   * white space.
   */
  allBut(newest: number, clear: number): number;
  /** Returns all that has not gone yet. */
  releaseAll(): Part<T>[];
  /** From the last token that was released to the last that was judged, as its source counts. */
  span(): Span;
}

/**
 * Text between its source and its reader. Tokens are in NFC, the source need not be: each judged token is matched with
 * the source it stands for, and what is released are slices of the source.
 */
export class TextHoldBuffer<T> implements HoldBuffer<T> {
  #text = "";
  /** Offset of `#text`'s beginning: where the last token that was released ends. */
  #start = 0;
  /** Offset up to which all has gone: behind it where tokens went ahead. */
  #gone = 0;
  #judged = 0;
  /** Where the judged tokens end that were not released, and how many were. */
  readonly #ends: number[] = [];
  #released = 0;
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

  get isEmpty(): boolean {
    return this.#stretches.length === 0;
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

  judge(token: { text: string }): boolean {
    const before = this.#judged;
    this.#match(token.text);
    this.#ends.push(this.#judged);
    return !this.#isSilent(before, this.#judged);
  }

  #match(text: string): void {
    this.#unmatched += text;
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
  }

  release(tokens: number, ahead: readonly { text: string }[] = []): Part<T>[] {
    const clear = tokens > this.#released ? this.#ends[tokens - this.#released - 1] : this.#start;
    this.#ends.splice(0, tokens - this.#released);
    this.#released = tokens;
    const parts = this.#releaseTo(Math.max(clear, ahead.length > 0 ? this.#endOf(ahead) : 0));
    this.#text = this.#text.slice(clear - this.#start);
    this.#start = clear;
    return parts;
  }

  allBut(newest: number, clear: number): number {
    const released = this.#released;
    let tokens = Math.min(clear, released + this.#ends.length - newest);
    while (tokens > released && SPACE.test(this.#text[this.#ends[tokens - released - 1] - this.#start - 1]))
      tokens--;
    return Math.max(tokens, released);
  }

  releaseAll(): Part<T>[] {
    return this.#releaseTo(this.#end);
  }

  /** Where tokens end that follow those that were judged. */
  #endOf(tokens: readonly { text: string }[]): number {
    const [judged, unmatched] = [this.#judged, this.#unmatched];
    for (const { text } of tokens) this.#match(text);
    const end = this.#judged;
    this.#judged = judged;
    this.#unmatched = unmatched;
    return end;
  }

  span(): Span {
    const [start, end] = [this.#start, this.#judged];
    let text = "";
    for (let at = start; at < end; ) {
      const silent = this.#silent.find((stretch) => stretch.end > at);
      const to = Math.min(end, silent?.start ?? end);
      text += this.#text.slice(at - start, Math.max(at, to) - start);
      at = silent && silent.start < end ? silent.end : end;
    }
    return { start: this.#visible(start), end: this.#visible(end), text };
  }

  #releaseTo(to: number): Part<T>[] {
    const parts: Part<T>[] = [];
    const stretches = this.#stretches;
    let done = 0;
    for (; done < stretches.length && stretches[done].end <= to; done++) {
      const { part, end } = stretches[done];
      if (part.kind === "item") parts.push(part);
      else this.#push(parts, part, end);
    }
    const cut = stretches[done]?.part;
    if (cut?.kind === "text") this.#push(parts, cut, to);
    stretches.splice(0, done);
    return parts;
  }

  /** Whether all between two offsets is silent. */
  #isSilent(start: number, end: number): boolean {
    // A token that completes no character belongs to the one that begins there.
    const to = Math.max(end, start + 1);
    return this.#silent.some((stretch) => !stretch.again && stretch.start <= start && to <= stretch.end);
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

  /** Adds a stretch's text up to an offset, joined with what comes before under the same tag. */
  #push(parts: Part<T>[], { tag, silent, again }: TextPart<T>, to: number): void {
    if (to <= this.#gone) return;
    const text = this.#text.slice(this.#gone - this.#start, to - this.#start);
    this.#gone = to;
    if (silent || again) return;
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

  get isEmpty(): boolean {
    return this.#ids.length === 0;
  }

  append(part: Part<T>): void {
    if (part.kind !== "ids") throw new GuardError("INTERNAL", "text among ids");
    for (const id of part.ids) this.#ids.push(id);
  }

  judge(): boolean {
    this.#judged++;
    return true;
  }

  release(tokens: number): Part<T>[] {
    const ids = this.#ids.splice(0, tokens - this.#start);
    this.#start += ids.length;
    return ids.length > 0 ? [{ kind: "ids", ids }] : [];
  }

  allBut(newest: number, clear: number): number {
    return Math.max(this.#start, Math.min(clear, this.#judged - newest));
  }

  releaseAll(): Part<T>[] {
    return this.release(this.#start + this.#ids.length);
  }

  span(): Span {
    return { start: this.#start, end: this.#judged, text: null };
  }
}

const SPACE = /\s/;

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
