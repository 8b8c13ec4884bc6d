import { isInert, normalize } from "./normalization.js";

/**
 * Text brought into NFC as it comes. Only its end can still change: marks join or pass the character before
 * them. Everything up to the last character that neither joins nor is joined to what stands before it is closed.
 */
export class Composition {
  #open = "";
  #last = "";
  #grown: string | null = "";

  /** The end that could still change, in NFC as it stands. */
  get open(): string {
    return this.#open;
  }

  /** Takes well-formed text; returns what it closed. */
  push(text: string): string {
    let closed = "";
    for (const character of text) {
      if (this.#open === "") this.#restart(character);
      else if (parts(this.#last, character)) {
        closed += this.#open;
        this.#restart(character);
      } else if (queues(this.#last, character)) {
        this.#open += character;
        this.#last = character;
        if (this.#grown !== null) this.#grown += character;
      } else {
        this.#open = normalize(this.#open + character);
        this.#last = lastOf(this.#open);
        this.#grown = null;
      }
    }
    return closed;
  }

  /** Ends the text: returns its open end. */
  close(): string {
    const closed = this.#open;
    this.#open = "";
    this.#grown = null;
    return closed;
  }

  /** What the open end has grown by since the last call; null when it is another one now. */
  takeGrown(): string | null {
    const grown = this.#grown;
    this.#grown = "";
    return grown;
  }

  #restart(character: string): void {
    this.#open = normalize(character);
    this.#last = lastOf(this.#open);
    this.#grown = null;
  }
}

/** Whether NFC never reaches from `next`, or from what follows it, back to `last` or before. */
function parts(last: string, next: string): boolean {
  // The first character that NFC can join to the one before it is U+0300.
  if (next < "\u0300" || isInert(next) || isInert(last)) return true;
  return isStarter(next) && (last + next).normalize("NFC") === last + next.normalize("NFC");
}

/** Whether `next` just stands after the mark `last`: of the same combining class, it neither passes nor joins. */
function queues(last: string, next: string): boolean {
  if (isStarter(last) || isStarter(next)) return false;
  return (last + next).normalize("NFD") === last + next && (next + last).normalize("NFD") === next + last;
}

const starters = new Map<string, boolean>();

/**
 * Whether the character's combining class is 0. Shown by its own behaviour, as the language gives no access to
 * the class itself: a mark of class 1 moves before every higher one, every lower one before a mark of class 240.
 */
function isStarter(character: string): boolean {
  if (!/\p{M}/u.test(character)) return true;
  let starter = starters.get(character);
  if (starter === undefined) {
    const first = String.fromCodePoint(character.normalize("NFD").codePointAt(0) as number);
    starter = keepsOrder(first, "\u0334") && keepsOrder("\u0345", first);
    starters.set(character, starter);
  }
  return starter;
}

function keepsOrder(first: string, second: string): boolean {
  return (first + second).normalize("NFD") === first + second;
}

function lastOf(text: string): string {
  const high = text.charCodeAt(text.length - 2);
  return high >= 0xd800 && high < 0xdc00 ? text.slice(-2) : text.slice(-1);
}
