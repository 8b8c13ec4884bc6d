/** Of a checkpoint's files, in bytes. An index takes 100 a tensor; parsing takes some thirty times as much memory. */
export const LARGEST_JSON = 8 << 20;
/** Levels of nesting: much more than anybody writes, and little for whoever goes through it recursively. */
export const DEEPEST = 128;

/**
 * JSON of a file, or of anything else strangers write. Deep nesting is refused: parsing it takes seconds and gigabytes,
 * and whatever goes through the result recursively fails.
 *
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = endOfString(text, at);
    else if (code === OPEN_BRACKET || code === OPEN_BRACE) {
      if (++depth > DEEPEST) throw new SyntaxError(`it is nested more than ${DEEPEST} deep`);
    } else if (code === CLOSE_BRACKET || code === CLOSE_BRACE) depth--;
  }
  return JSON.parse(text);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Where the string that begins at `at` ends: at its quote, or with the text. */
function endOfString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text.charCodeAt(end - 1 - escapes) === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return text.length;
}

/** An object of JSON. */
export type Json = Record<string, unknown>;

export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value as an object; one without fields where it is none. */
export function record(value: unknown): Json {
  return isRecord(value) ? value : {};
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
