/** What the pre-tokenizer's split tells apart. */
export const LETTER = 1;
export const NUMBER = 2;
export const NEWLINE = 3;
export const SPACE = 4;
export const OTHER = 5;

const known = new Uint8Array(0x110000);

/**
 * The class of a code point: LETTER, NUMBER, NEWLINE (CR, LF), SPACE (other white space) or OTHER. By the Unicode
 * tables of this Node; the reference implementation has those of Unicode 16, to which later letters are OTHER.
 */
export function classOf(codePoint: number): number {
  if (known[codePoint] === 0) known[codePoint] = classify(codePoint);
  return known[codePoint];
}

function classify(codePoint: number): number {
  const text = String.fromCodePoint(codePoint);
  if (text === "\r" || text === "\n") return NEWLINE;
  if (/\p{L}/u.test(text)) return LETTER;
  if (/\p{N}/u.test(text)) return NUMBER;
  return /\p{White_Space}/u.test(text) ? SPACE : OTHER;
}
