import { createHash } from "node:crypto";
import { InputError } from "../../errors.js";
import type { GuardConfig } from "../../model/config.js";
import { type Policy, resolvePolicy } from "../../moderation/policy.js";
import { unknownField } from "../../moderation/policy-checks.js";
import { isRecord, text } from "../../validation/json.js";
import { quoted } from "../../validation/quoted.js";
import { NO_OVERRIDE, type Override, overridden, readOverride } from "./policy-override.js";

/** What tells which policy a request goes by. */
export interface Asked {
  /** The request's path, without its query. */
  path: string;
  model: unknown;
  headers: Headers;
}

/** A policy, and the name of the rule that chose it, "+" and what the request itself has set of it; null: none did. */
export interface Chosen {
  name: string | null;
  policy: Policy;
}

interface Rule {
  name: string;
  matches: (asked: Asked) => boolean;
  policy: Policy;
  /** As it was written. */
  data: unknown;
  /** What a request may set of it. */
  override: Override;
}

const RULE_FIELDS = ["name", "when", "policy", "override"];
const CONDITIONS = ["model", "path", "key", "header"];
const NAME = /^[\w.-]{1,64}$/;
const KEY = /^sha256:[0-9a-f]{64}$/;
/** Where clients of the APIs that are spoken here put their keys. */
const KEY_HEADERS = ["authorization", "api-key", "x-api-key"];

/**
 * Policies by model, path, key or header: the first rule that matches counts, and where none does the proxy's own policy.
 * All of it is checked when it is made.
 */
export class PolicyTable {
  readonly #rules: readonly Rule[];
  readonly #otherwise: Policy;
  readonly #labels: GuardConfig["labels"];

  /**
   * @param data `{ "policies": [{ "name": …, "when": { "model": …, "path": …, "key": …, "header": { … } }, "policy": …,
   *   "override": { "stricter": […], "any": […] } }] }`
   * @param otherwise for requests that no rule matches
   * @throws {InputError} POLICY_INVALID: the message says which rule
   */
  constructor(data: unknown, labels: GuardConfig["labels"], otherwise: Policy) {
    this.#otherwise = otherwise;
    this.#labels = labels;
    this.#rules = rulesOf(data ?? { policies: [] }).map((rule, i) => readRule(rule, i, labels));
    const names = this.#rules.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw invalid(`two policies are named ${quoted(twice)}`);
  }

  /** Whether any of them lets attachments pass. */
  get attachments(): boolean {
    const policies = [this.#otherwise, ...this.#rules.map(({ policy }) => policy)];
    return (
      policies.some(({ attachments }) => attachments === "ignore") ||
      this.#rules.some(({ override }) => override.any.includes("attachments"))
    );
  }

  /** @throws {RequestError} policy_invalid, override_refused: the request asks for another than it may */
  choose(asked: Asked): Chosen {
    const rule = this.#rules.find(({ matches }) => matches(asked));
    const { name, policy, data, override } = rule ?? {
      name: null,
      policy: this.#otherwise,
      data: {},
      override: NO_OVERRIDE,
    };
    const own = overridden(asked.headers, data, override, this.#labels);
    return own ? { name: [name, ...own.fields].join("+"), policy: own.policy } : { name, policy };
  }
}

function rulesOf(data: unknown): unknown[] {
  if (!isRecord(data) || !Array.isArray(data.policies) || Object.keys(data).length !== 1) {
    throw invalid('the file must be { "policies": [ … ] }');
  }
  return data.policies;
}

function readRule(rule: unknown, i: number, labels: GuardConfig["labels"]): Rule {
  const where = `policies[${i}]`;
  const { name, when = {}, policy, override } = fieldsOf(rule, where, RULE_FIELDS);
  if (typeof name !== "string" || !NAME.test(name)) {
    throw invalid(`${where}.name must be a word of letters, digits, ".", "_" and "-"`);
  }
  const { model, path, key, header = {} } = fieldsOf(when, `${where}.when`, CONDITIONS);
  const models = patterns(model, `${where}.when.model`);
  const paths = patterns(path, `${where}.when.path`);
  const keys = keysOf(key, `${where}.when.key`);
  const headers = Object.entries(fieldsOf(header, `${where}.when.header`)).map(
    ([header, value]) => [header, patterns(value, `${where}.when.header[${quoted(header)}]`)] as const,
  );
  const matches = (asked: Asked): boolean =>
    fits(models, text(asked.model).trim()) &&
    fits(paths, asked.path) &&
    (keys === null || credentials(asked.headers).some((own) => keys.includes(own))) &&
    headers.every(([header, wanted]) => fits(wanted, asked.headers.get(header) ?? ""));
  try {
    const own = resolvePolicy(policy, labels);
    return { name, matches, policy: own, data: policy, override: readOverride(override, "override") };
  } catch (cause) {
    throw invalid(`${where} (${name}): ${(cause as Error).message}`, cause);
  }
}

function fieldsOf(value: unknown, where: string, known?: readonly string[]): Record<string, unknown> {
  if (!isRecord(value)) throw invalid(`${where} must be an object`);
  const unknown = known ? unknownField(value, where, known) : null;
  if (unknown !== null) throw invalid(unknown);
  return value;
}

/** Patterns of a condition; null where there is none. `*` stands for anything; capitals do not count. */
function patterns(value: unknown, where: string): RegExp[] | null {
  if (value === undefined) return null;
  return words(value, where).map((pattern) => {
    const source = pattern
      .split("*")
      .map((part) => part.replace(/[.+^$()|[\]{}\\?]/g, "\\$&"))
      .join(".*");
    return new RegExp(`^${source}$`, "is");
  });
}

function words(value: unknown, where: string): string[] {
  const all = Array.isArray(value) ? value : [value];
  if (all.length > 0 && all.every((own) => typeof own === "string" && own !== "")) return all;
  throw invalid(`${where} must be a text or a list of texts`);
}

function keysOf(value: unknown, where: string): string[] | null {
  if (value === undefined) return null;
  const keys = words(value, where);
  if (keys.every((key) => KEY.test(key))) return keys;
  throw invalid(
    `${where} must be the key's hash, "sha256:" and 64 hexadecimal digits: no file should hold a key`,
  );
}

function fits(wanted: readonly RegExp[] | null, value: string): boolean {
  return wanted === null || wanted.some((pattern) => pattern.test(value));
}

/**
 * Hashes of the keys that a request comes with, however it writes them: a header that comes twice is one with a comma, and
 * servers differ in what they take for the space behind "Bearer", or for "Bearer".
 */
function credentials(headers: Headers): string[] {
  const values = KEY_HEADERS.flatMap((name) => headers.get(name)?.split(/\s*,\s*/) ?? []);
  const keys = values.flatMap((value) => [value, value.replace(/^\S+\s+/, "")]);
  return [...new Set(keys)].map((key) => `sha256:${createHash("sha256").update(key).digest("hex")}`);
}

function invalid(what: string, cause?: unknown): InputError {
  return new InputError("POLICY_INVALID", `The policies cannot be used: ${what}.`, { cause });
}
