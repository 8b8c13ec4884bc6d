import { isRecord, type Json, list } from "../../validation/json.js";
import { isScalar, type Reader, type Shape } from "./allow-list.js";
import { passing } from "./passing.js";

const PASSING = "numbers; tokens that its text is made of, and of others single words";

/** Longest token that passes as an alternative to what was said. */
const LONGEST_ALTERNATIVE = 20;
const MOST_ALTERNATIVES = 20;
/** How far tokens that are no text of their own may go. UTF-16 units. */
const LONGEST_GAP = 512;

/**
 * Log probabilities of text that is judged: numbers pass, and tokens that the text is made of, in its order; other tokens
 * become "". Of alternatives what is a single word at most.
 */
export const logprobs: Shape = passing(PASSING, (value, reader) => {
  if (isScalar(value)) return value;
  if (!isRecord(value)) return undefined;
  if (Array.isArray(value.tokens)) return columns(value, reader);
  const passed: Json = {};
  for (const name of ["content", "refusal"]) {
    if (value[name] === null) passed[name] = null;
    else if (Array.isArray(value[name])) passed[name] = entries(value[name], reader);
  }
  return passed;
});

/** The same as a list of tokens. */
export const tokenList: Shape = passing(PASSING, (value, reader) =>
  Array.isArray(value) ? entries(value, reader) : undefined,
);

/** One object a token, as chat completions have them. */
function entries(values: unknown[], { content }: Reader): Json[] {
  const spoken = new SpokenTokens(content);
  return values.filter(isRecord).map((entry) => ({
    ...token(entry, spoken.take(entry.token)),
    ...(Array.isArray(entry.top_logprobs) && {
      top_logprobs: entry.top_logprobs
        .filter(isRecord)
        .slice(0, MOST_ALTERNATIVES)
        .map((alternative) => token(alternative, isAlternative(alternative.token))),
    }),
  }));
}

function token(entry: Json, passes: boolean): Json {
  const own = passes ? (entry.token as string) : "";
  return {
    token: own,
    logprob: isScalar(entry.logprob) ? entry.logprob : null,
    bytes: passes && Array.isArray(entry.bytes) ? [...Buffer.from(own)] : null,
    ...(passes && typeof entry.id === "number" && { id: entry.id }),
  };
}

/** One list a property, as completions have them. */
function columns(value: Json, { content }: Reader): Json {
  const spoken = new SpokenTokens(content);
  const tokens = list(value.tokens).map((own) => (spoken.take(own) ? own : ""));
  const numbers = (values: unknown) =>
    Array.isArray(values) ? values.slice(0, tokens.length).map((own) => (isScalar(own) ? own : null)) : null;
  return {
    tokens,
    token_logprobs: numbers(value.token_logprobs),
    text_offset: numbers(value.text_offset),
    top_logprobs: Array.isArray(value.top_logprobs)
      ? value.top_logprobs.slice(0, tokens.length).map((own) => (isRecord(own) ? alternatives(own) : null))
      : null,
  };
}

function alternatives(values: Json): Json {
  const passed = Object.entries(values).filter(([name, own]) => isAlternative(name) && isScalar(own));
  return Object.fromEntries(passed.slice(0, MOST_ALTERNATIVES));
}

function isAlternative(value: unknown): boolean {
  return typeof value === "string" && value.length <= LONGEST_ALTERNATIVE && !/\S\s+\S/.test(value);
}

/** Follows a text token by token. */
class SpokenTokens {
  readonly #text: string;
  #at = 0;
  /** Whether what comes next may lie further on: at the start, or after a token that is no text of its own. */
  #loose = true;

  constructor(text: string) {
    this.#text = text;
  }

  take(value: unknown): boolean {
    if (typeof value !== "string" || value === "") return false;
    const found = this.#find(value);
    this.#loose = found < 0;
    if (found >= 0) this.#at = found + value.length;
    return found >= 0;
  }

  #find(value: string): number {
    if (this.#text.startsWith(value, this.#at)) return this.#at;
    if (!this.#loose) return -1;
    const ahead = this.#text.slice(this.#at, this.#at + LONGEST_GAP + value.length).indexOf(value);
    return ahead < 0 ? -1 : this.#at + ahead;
  }
}
