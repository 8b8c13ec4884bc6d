import { InputError } from "../errors.js";
import { isRecord } from "../validation/json.js";
import { aBoolean, type OptionCheck, wholeFrom } from "../validation/options.js";
import { quoted } from "../validation/quoted.js";
import { severityOf } from "./labels.js";

export type Fields = Record<string, unknown>;

const whole = wholeFrom(1);
const aDebounce: OptionCheck = (value) => whole(value) && "a whole number of tokens from 1";
const aProbability: OptionCheck = (value) =>
  typeof value === "number" && value >= 0 && value <= 1 ? null : "a probability from 0 to 1";
const aWording: OptionCheck = (value) => (typeof value === "string" && value.trim() !== "" ? null : "a text");
const anAction = anyOf("ignore", "observe", "block");
const RULES = {
  reading: anyOf("strict", "loose"),
  action: anAction,
  debounce: aDebounce,
  threshold: aProbability,
};

/** What a policy's fields must be that hold one value. */
export const VALUES = {
  scope: anyOf("turn", "conversation"),
  refusal: anAction,
  attachments: anyOf("block", "ignore"),
  unjudged: anyOf("refuse", "pass"),
  tools: anyOf("judge", "pass", "refuse"),
  toolResults: anyOf("judge", "pass"),
  failOpen: aBoolean,
};

function anyOf(...choices: readonly string[]): OptionCheck {
  const expected = `one of ${choices.map((name) => JSON.stringify(name)).join(", ")}`;
  return (value) => (choices.includes(value as string) ? null : expected);
}

/** @param at where the rules are: "", or "prompt." */
export function checkRules(
  rules: Fields,
  at: string,
  risks: readonly string[],
  categories: readonly string[],
): void {
  for (const [field, check] of Object.entries(RULES)) {
    if (rules[field] !== undefined) checked(rules[field], at + field, check);
  }
  const harmful = unique(risks).filter((label) => severityOf(label) !== "safe");
  for (const [label, value] of labelled(rules.thresholds, `${at}thresholds`, harmful)) {
    checked(value, `${at}thresholds[${quoted(label)}]`, aProbability);
  }
  for (const [label, value] of labelled(rules.categories, `${at}categories`, unique(categories))) {
    const where = `${at}categories[${quoted(label)}]`;
    if (typeof value === "string") checked(value, where, anAction);
    else {
      const { action, threshold } = record(value, where, ["action", "threshold"]);
      if (action !== undefined) checked(action, `${where}.action`, anAction);
      if (threshold !== undefined) checked(threshold, `${where}.threshold`, aProbability);
    }
  }
}

/** By category, and "default": one text alone is that of all. */
export function replacements(value: unknown, categories: readonly string[]): Record<string, string> {
  const texts = typeof value === "string" ? { default: value } : value;
  const given = labelled(texts, "replacement", ["default", ...unique(categories)]);
  for (const [label, own] of given) checked(own, `replacement[${quoted(label)}]`, aWording);
  return Object.fromEntries(given) as Record<string, string>;
}

function labelled(value: unknown, where: string, labels: readonly string[]): [string, unknown][] {
  return value === undefined ? [] : Object.entries(record(value, where, labels));
}

/** An object with no other fields. @throws {InputError} POLICY_INVALID */
export function record(value: unknown, where: string, fields: readonly string[]): Fields {
  if (!isRecord(value)) throw wrong(where, value, "an object");
  const unknown = unknownField(value, where, fields);
  if (unknown !== null) throw new InputError("POLICY_INVALID", `${unknown}.`);
  return value;
}

/** What to say of a field that nobody knows; null where there is none. */
export function unknownField(value: object, where: string, fields: readonly string[]): string | null {
  const unknown = Object.keys(value).find((field) => !fields.includes(field));
  return unknown === undefined ? null : `${where} has no ${quoted(unknown)}. It takes: ${fields.join(", ")}`;
}

/** A value that is what it must be. @throws {InputError} POLICY_INVALID */
export function checked<T>(value: unknown, where: string, check: OptionCheck): T {
  const expected = check(value);
  if (expected === null) return value as T;
  throw wrong(where, value, expected);
}

function wrong(where: string, value: unknown, expected: string): InputError {
  return new InputError("POLICY_INVALID", `${where} is ${quoted(value)}; it must be ${expected}.`);
}

function unique(labels: readonly string[]): string[] {
  return [...new Set(labels)];
}
