import { InputError } from "../../errors.js";
import type { GuardConfig } from "../../model/config.js";
import { POLICY_FIELDS, type Policy, resolvePolicy } from "../../moderation/policy.js";
import { isAsStrict } from "../../moderation/strictness.js";
import { isRecord, type Json } from "../../validation/json.js";
import { quotedName } from "../../validation/quoted.js";
import { RequestError } from "../api-error.js";

/** What a request may set of its policy, as JSON. It stays with the proxy. */
export const POLICY_HEADER = "x-qwen3guard-policy";

/** More than any policy needs to be. */
const LONGEST = 4096;

/** Fields of a policy that a request may set. */
export interface Override {
  /** So that all is stopped and refused that was before. */
  stricter: readonly string[];
  /** To whatever it likes. */
  any: readonly string[];
}

export const NO_OVERRIDE: Override = { stricter: [], any: [] };

/** @throws {InputError} POLICY_INVALID */
export function readOverride(value: unknown, where: string): Override {
  if (value === undefined) return NO_OVERRIDE;
  const ways = Object.keys(NO_OVERRIDE);
  if (!isRecord(value) || Object.keys(value).some((way) => !ways.includes(way))) {
    throw invalid(`${where} must be { "stricter": [ … ], "any": [ … ] }`);
  }
  const { stricter = [], any = [] } = value;
  for (const [way, fields] of Object.entries({ stricter, any })) {
    const known = Array.isArray(fields) && fields.every((field) => POLICY_FIELDS.includes(field));
    if (!known)
      throw invalid(`${where}.${way} must be a list of a policy's fields: ${POLICY_FIELDS.join(", ")}`);
  }
  return { stricter, any } as Override;
}

/**
 * The policy that a request asks for beside its own, and the names of the fields that it sets; null where it asks for none.
 *
 * @param data its own policy, as it was written
 * @throws {RequestError} policy_invalid, override_refused
 */
export function overridden(
  headers: Headers,
  data: unknown,
  allowed: Override,
  labels: GuardConfig["labels"],
): { policy: Policy; fields: string[] } | null {
  const header = headers.get(POLICY_HEADER);
  if (header === null) return null;
  const asked = parse(header);
  const fields = Object.keys(asked);
  const refused = fields.find((field) => !allowed.any.includes(field) && !allowed.stricter.includes(field));
  if (refused !== undefined) throw refusal(`does not let a request set ${quotedName(refused)}`);
  const free = pick(asked, (field) => allowed.any.includes(field));
  const bound = pick(asked, (field) => !allowed.any.includes(field));
  try {
    const base = merged(data ?? {}, free);
    const policy = resolvePolicy(merged(base, bound), labels);
    if (isAsStrict(policy, resolvePolicy(base, labels))) return { policy, fields };
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    throw policyInvalid(cause.message);
  }
  throw refusal(
    `lets a request set ${Object.keys(bound).map(quotedName).join(", ")} only so that nothing more passes`,
  );
}

function parse(header: string): Json {
  let asked: unknown;
  try {
    asked = header.length > LONGEST ? null : JSON.parse(header);
  } catch {
    // As what is no object.
  }
  if (!isRecord(asked)) {
    throw policyInvalid(
      `It must be a JSON object of at most ${LONGEST} characters, such as {"reading":"strict"}.`,
    );
  }
  return asked;
}

function pick(asked: Json, which: (field: string) => boolean): Json {
  return Object.fromEntries(Object.entries(asked).filter(([field]) => which(field)));
}

/** Fields within fields go beside those that were there; all else takes their place. */
function merged(own: unknown, other: unknown): unknown {
  if (!isRecord(own) || !isRecord(other)) return other;
  const both = Object.entries(other).map(([name, value]) => [
    name,
    Object.hasOwn(own, name) ? merged(own[name], value) : value,
  ]);
  return { ...own, ...Object.fromEntries(both) };
}

function policyInvalid(why: string): RequestError {
  const message = `The header ${POLICY_HEADER} is no policy.`;
  return new RequestError(400, "policy_invalid", message, { told: { message: `${message} ${why}` } });
}

function refusal(why: string): RequestError {
  const message = `The header ${POLICY_HEADER} asks for what the policy for this request does not allow.`;
  return new RequestError(403, "override_refused", message, {
    told: {
      message: `The policy for this request ${why} (${POLICY_HEADER}). "override" in the policies file may allow it.`,
    },
  });
}

function invalid(what: string): InputError {
  return new InputError("POLICY_INVALID", what);
}
