import { InputError } from "../errors.js";
import { quotedName } from "./quoted.js";

/** What an option must be, in words; null where the value is that. */
export type OptionCheck = (value: unknown) => string | null;

/** Whatever it is: it is checked where it is read. */
export const anything: OptionCheck = () => null;

export const aBoolean = ofType("boolean", "true or false");
export const aText = ofType("string", "a text");
export const aFunction = ofType("function", "a function");

/** By its shape: a signal may come from another realm, where tests run in one of their own. */
export const aSignal: OptionCheck = (value) =>
  typeof (value as Partial<AbortSignal> | null)?.addEventListener === "function"
    ? null
    : "an AbortSignal, that of an AbortController for example";

export function oneOf(...choices: readonly string[]): OptionCheck {
  const expected = choices.map((choice) => JSON.stringify(choice)).join(" or ");
  return (value) => (choices.includes(value as string) ? null : expected);
}

export function wholeFrom(least: number, most = Number.MAX_SAFE_INTEGER): OptionCheck {
  const expected =
    most === Number.MAX_SAFE_INTEGER
      ? `a whole number from ${least}`
      : `a whole number from ${least} to ${most}`;
  return (value) =>
    Number.isInteger(value) && Number(value) >= least && Number(value) <= most ? null : expected;
}

/**
 * Options as callers from JavaScript give them: a name that nobody knows is a slip, not a wish that may be ignored.
 * What is undefined was not given.
 *
 * @param owner what takes them, for the message
 * @throws {InputError} OPTION_INVALID
 */
export function checkOptions(
  given: unknown,
  owner: string,
  known: Readonly<Record<string, OptionCheck>>,
): void {
  if (given === undefined || given === null) return;
  if (typeof given !== "object" || Array.isArray(given)) {
    throw new InputError("OPTION_INVALID", `${owner} takes its options as an object, not as ${kind(given)}.`);
  }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(known, name)) throw unknown(name, owner, Object.keys(known));
    const expected = known[name](value);
    if (expected !== null) {
      throw new InputError(
        "OPTION_INVALID",
        `${name} of ${owner} is ${shown(value)}; it must be ${expected}.`,
      );
    }
  }
}

function ofType(type: string, expected: string): OptionCheck {
  return (value) => (typeof value === type ? null : expected);
}

function unknown(name: string, owner: string, names: string[]): InputError {
  const near = names.find((known) => distance(known.toLowerCase(), name.toLowerCase()) <= MOST_SLIPS);
  const meant = near ? ` Did you mean ${near}?` : "";
  return new InputError(
    "OPTION_INVALID",
    `${owner} has no option ${quotedName(name)}.${meant} It takes: ${names.join(", ")}.`,
  );
}

const MOST_SLIPS = 2;

/** How many letters have to be put in, left out or changed (Levenshtein). */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + Number(one[i - 1] !== other[j - 1]));
    }
    row = next;
  }
  return row[other.length];
}

/** Kinds of values rather than values where those may be anybody's text. */
function shown(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean" || value === null) return String(value);
  if (typeof value === "string") return quotedName(value);
  return kind(value);
}

function kind(value: unknown): string {
  return Array.isArray(value) ? "a list" : `a value of type ${typeof value}`;
}
