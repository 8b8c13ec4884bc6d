import { InputError } from "../../errors.js";
import { isInert, normalize } from "./normalize.js";

/**
 * Marks that may follow one character. JavaScript's NFC sorts a run of marks in time that grows with its square: within
 * this bound that costs no more than encoding does. UAX #15 finds no use for more than 30.
 */
export const MOST_MARKS = 256;

/** The first character that NFC can join to the one before it. */
const FIRST_MARK = 0x300;

/** What NFC may do with a character and what stands before it: nothing; sort it in and join it; or join it at most. */
const APART = 1;
const MARK = 2;
const JOINER = 3;
/** A character that also keeps what comes after it from what came before. */
const INERT = 4;

const known = new Uint8Array(0x110000);

/**
 * Text brought into NFC as it comes. Only its end can still change: marks join or pass the character before
 * them. Everything up to the last character that neither joins nor is joined to what stands before it is closed.
 */
export class NfcStream {
  /** The end that could still change, as it came, and in NFC. */
  #raw = "";
  #open = "";
  #marks = 0;
  #afterInert = false;
  #grown: string | null = "";

  /** The end that could still change, in NFC as it stands. */
  get open(): string {
    return this.#open;
  }

  /** Takes well-formed text; returns what it closed. Throws InputError (MARKS_TOO_MANY); it is of no use after that. */
  push(text: string): string {
    if (text === "") return "";
    const all = this.#raw + text;
    let start = 0;
    for (let i = this.#raw.length; i < all.length; i++) {
      const codePoint = all.codePointAt(i) as number;
      const kind = codePoint < FIRST_MARK ? APART : kindOf(codePoint);
      if (this.#begins(all, start, i, kind)) {
        start = i;
        this.#marks = 0;
      } else if (++this.#marks > MOST_MARKS) {
        throw new InputError(
          "MARKS_TOO_MANY",
          `More than ${MOST_MARKS} combining marks follow one character. No writing needs that many: leave them out.`,
        );
      }
      this.#afterInert = kind === INERT;
      if (codePoint > 0xffff) i++;
    }
    const closed = normalize(all.slice(0, start));
    this.#raw = all.slice(start);
    const before = this.#open;
    this.#open = normalize(this.#raw);
    if (start > 0 || before === "" || !this.#open.startsWith(before)) this.#grown = null;
    else if (this.#grown !== null) this.#grown += this.#open.slice(before.length);
    return closed;
  }

  /** Ends the text: returns its open end. */
  close(): string {
    const closed = this.#open;
    this.#raw = "";
    this.#open = "";
    this.#marks = 0;
    this.#afterInert = false;
    this.#grown = null;
    return closed;
  }

  /** What the open end has grown by since the last call; null when it is another one now. */
  takeGrown(): string | null {
    const grown = this.#grown;
    this.#grown = "";
    return grown;
  }

  /** Whether NFC never reaches from the character at `i`, or from what follows it, back to what stands before it. */
  #begins(text: string, start: number, i: number, kind: number): boolean {
    if (i === 0 || kind === APART || kind === INERT || this.#afterInert) return true;
    if (kind === MARK) return false;
    const last = lastOf(normalize(text.slice(start, i)));
    const next = String.fromCodePoint(text.codePointAt(i) as number);
    return (last + next).normalize("NFC") === last + next.normalize("NFC");
  }
}

function kindOf(codePoint: number): number {
  if (known[codePoint] === 0) known[codePoint] = classify(String.fromCodePoint(codePoint));
  return known[codePoint];
}

function classify(character: string): number {
  if (isInert(character)) return INERT;
  // Besides marks only the vowels and final consonants of Hangul join what stands before them.
  if (!/[\p{M}\u1160-\u11ff]/u.test(character)) return APART;
  return isStarter(character) ? JOINER : MARK;
}

/**
 * Whether the character's combining class is 0. Shown by its own behaviour, as the language gives no access to
 * the class itself: a mark of class 1 moves before every higher one, every lower one before a mark of class 240.
 */
function isStarter(character: string): boolean {
  const first = String.fromCodePoint(character.normalize("NFD").codePointAt(0) as number);
  return keepsOrder(first, "\u0334") && keepsOrder("\u0345", first);
}

function keepsOrder(first: string, second: string): boolean {
  return (first + second).normalize("NFD") === first + second;
}

function lastOf(text: string): string {
  const high = text.charCodeAt(text.length - 2);
  return high >= 0xd800 && high < 0xdc00 ? text.slice(-2) : text.slice(-1);
}
