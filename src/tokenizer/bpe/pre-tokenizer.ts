import { classOf, LETTER, NEWLINE, NUMBER, OTHER, SPACE } from "./character.js";
import type { Merges } from "./merges.js";
import { PreToken } from "./pre-token.js";
import { TokenStack } from "./token-stack.js";

/**
 * How tokenizer.json of the Qwen family writes its split, one piece a match. The reference implementation folds
 * case as Unicode does: `(?i:'s)` takes the long s (U+017F) too.
 */
export const QWEN_SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** No state: the piece is over. */
const OVER = -1;
/** Between two pieces. */
const START = 0;
const LETTERS = 1;
/** One character that the letters after it would join. */
const LONE = 2;
/** An apostrophe that began a piece: `'s` and its like are pieces of their own. */
const APOSTROPHE = 3;
/** `'r`, `'v`, `'l`: an e (or l) would end the piece, another letter goes on with it. */
const CONTRACTION_E = 4;
const CONTRACTION_L = 5;
/** Punctuation and symbols, and then the newlines after them. */
const OTHERS = 6;
const OTHERS_NEWLINES = 7;
/** White space: see `#space`. */
const SPACES = 8;

const APOSTROPHE_SIGN = 0x27;
const BLANK = 0x20;
const SHORT_CONTRACTIONS = codePoints("sStTmMdDſ");
const CONTRACTIONS_BY_E = codePoints("rRvV");
const LETTERS_E = codePoints("eE");
const LETTERS_L = codePoints("lL");

/**
 * Text cut into pre-tokens and encoded as it comes: Qwen's split expression (`QWEN_SPLIT`) as a machine that
 * reads each character once. After every `feed` the stack holds what encoding all text so far gives.
 *
 * All but white space is certain at once: a piece either goes on or is over. A run of white space is not. Up to
 * its last newline it is one piece; what follows that is a second, unless another newline comes and makes all of
 * it one: both are kept under way. Its last character leaves it for the word that may come after.
 */
export class PreTokenizer {
  readonly stack: TokenStack;
  readonly #merges: Merges;
  #state = START;
  #piece: PreToken;
  /** SPACES: the white space after the last newline, when there is both; the stack then goes on from `#piece`. */
  #blanks: PreToken | null = null;
  /** SPACES: bytes of `#piece` up to the end of its last newline. */
  #broken = 0;
  /** SPACES: characters after the last newline, the last of them, and its size in bytes. */
  #count = 0;
  #character = 0;
  #size = 0;
  /** Ids that stand, found so far. */
  #settled = 0;

  constructor(merges: Merges, stack = new TokenStack()) {
    this.#merges = merges;
    this.stack = stack;
    this.#piece = new PreToken(merges, stack.length);
  }

  /** A copy that may go its own way until this one goes on. */
  fork(): PreTokenizer {
    const copy = new PreTokenizer(this.#merges, new TokenStack(this.stack));
    copy.#state = this.#state;
    copy.#piece = this.#piece.fork();
    copy.#blanks = this.#blanks?.fork() ?? null;
    copy.#broken = this.#broken;
    copy.#count = this.#count;
    copy.#character = this.#character;
    copy.#size = this.#size;
    copy.#settled = this.#settled;
    return copy;
  }

  feed(text: string): void {
    for (let i = 0; i < text.length; i++) {
      const codePoint = text.codePointAt(i) as number;
      if (codePoint > 0xffff) i++;
      this.#read(codePoint);
    }
    if (this.#state !== START) (this.#blanks ?? this.#piece).write(this.stack);
  }

  /** Ends the text here and puts a token in: what comes next is encoded on its own. */
  interrupt(token: number): void {
    this.#state = START;
    this.#blanks = null;
    this.stack.push(token, 0);
  }

  /** How many ids stand whatever comes next. */
  settled(): number {
    if (this.#state === START) this.#settled = this.stack.length;
    else if (this.#blanks === null) this.#settle();
    return this.#settled;
  }

  #settle(): void {
    const piece = this.#piece;
    const cut = this.#state === SPACES && this.#count > 1 ? piece.length - this.#size : piece.length;
    const bytes = piece.settled(cut);
    let index = this.stack.length;
    while (index > piece.first && this.stack.endAt(index - 1) > bytes) index--;
    this.#settled = Math.max(this.#settled, index);
  }

  #read(codePoint: number): void {
    const kind = classOf(codePoint);
    if (this.#state === SPACES) {
      if (kind === SPACE || kind === NEWLINE) this.#space(codePoint, kind);
      else this.#word(codePoint, kind);
      return;
    }
    const next = this.#state === START ? OVER : following(this.#state, codePoint, kind);
    if (next === OVER) this.#open(codePoint, kind);
    else this.#append(codePoint, next);
  }

  /** Begins a piece; the one before is over. */
  #open(codePoint: number, kind: number): void {
    if (this.#state !== START) this.#piece.write(this.stack);
    this.#piece = new PreToken(this.#merges, this.stack.length);
    if (kind === LETTER) this.#append(codePoint, LETTERS);
    else if (kind === NUMBER) this.#append(codePoint, START);
    else if (kind === OTHER) this.#append(codePoint, codePoint === APOSTROPHE_SIGN ? APOSTROPHE : LONE);
    else {
      this.#state = SPACES;
      this.#blanks = null;
      this.#broken = 0;
      this.#count = 0;
      this.#space(codePoint, kind);
    }
  }

  #append(codePoint: number, state: number): void {
    appendCharacter(this.#piece, codePoint);
    this.#state = state;
    if (state === START) this.#piece.write(this.stack);
  }

  #space(codePoint: number, kind: number): void {
    if (kind === NEWLINE) {
      if (this.#blanks !== null) this.stack.truncate(this.#blanks.first);
      this.#blanks = null;
      appendCharacter(this.#piece, codePoint);
      this.#broken = this.#piece.length;
      this.#count = 0;
      return;
    }
    if (this.#broken > 0) {
      if (this.#blanks === null) {
        this.#piece.write(this.stack);
        this.#settle();
        this.#blanks = new PreToken(this.#merges, this.stack.length);
      }
      appendCharacter(this.#blanks, codePoint);
    }
    this.#size = appendCharacter(this.#piece, codePoint);
    this.#character = codePoint;
    this.#count++;
  }

  /** What comes after white space: it may take the last space with it. */
  #word(codePoint: number, kind: number): void {
    if (this.#blanks !== null) this.#piece = this.#blanks;
    this.#blanks = null;
    if (this.#count > 1) {
      this.#piece.write(this.stack, this.#piece.length - this.#size);
      this.#piece = new PreToken(this.#merges, this.stack.length);
      appendCharacter(this.#piece, this.#character);
    }
    if (this.#count > 0 && kind === LETTER) this.#append(codePoint, LETTERS);
    else if (this.#count > 0 && kind === OTHER && this.#character === BLANK) this.#append(codePoint, OTHERS);
    else this.#open(codePoint, kind);
  }
}

/** The state in which this character goes on with the piece; OVER when it does not, START when it ends it. */
function following(state: number, codePoint: number, kind: number): number {
  switch (state) {
    case APOSTROPHE:
      if (SHORT_CONTRACTIONS.has(codePoint)) return START;
      if (CONTRACTIONS_BY_E.has(codePoint)) return CONTRACTION_E;
      if (LETTERS_L.has(codePoint)) return CONTRACTION_L;
      return kind === LETTER ? LETTERS : following(OTHERS, codePoint, kind);
    case LONE:
      return kind === LETTER ? LETTERS : following(OTHERS, codePoint, kind);
    case CONTRACTION_E:
      return LETTERS_E.has(codePoint) ? START : kind === LETTER ? LETTERS : OVER;
    case CONTRACTION_L:
      return LETTERS_L.has(codePoint) ? START : kind === LETTER ? LETTERS : OVER;
    case LETTERS:
      return kind === LETTER ? LETTERS : OVER;
    case OTHERS:
      if (kind === OTHER) return OTHERS;
      return kind === NEWLINE ? OTHERS_NEWLINES : OVER;
    default:
      return kind === NEWLINE ? OTHERS_NEWLINES : OVER;
  }
}

/** Appends a code point as UTF-8; returns its size in bytes. */
function appendCharacter(piece: PreToken, codePoint: number): number {
  if (codePoint < 0x80) {
    piece.append(codePoint);
    return 1;
  }
  if (codePoint < 0x800) {
    piece.append(0xc0 | (codePoint >> 6));
    piece.append(0x80 | (codePoint & 0x3f));
    return 2;
  }
  if (codePoint < 0x10000) {
    piece.append(0xe0 | (codePoint >> 12));
    piece.append(0x80 | ((codePoint >> 6) & 0x3f));
    piece.append(0x80 | (codePoint & 0x3f));
    return 3;
  }
  piece.append(0xf0 | (codePoint >> 18));
  piece.append(0x80 | ((codePoint >> 12) & 0x3f));
  piece.append(0x80 | ((codePoint >> 6) & 0x3f));
  piece.append(0x80 | (codePoint & 0x3f));
  return 4;
}

function codePoints(text: string): ReadonlySet<number> {
  return new Set(Array.from(text, (character) => character.codePointAt(0) as number));
}
