import { isDeepStrictEqual } from "node:util";
import type { Policy } from "../../moderation/policy.js";
import { isRecord, type Json } from "../../validation/json.js";
import { RequestError } from "../api-error.js";
import type { OpenFields } from "./open-fields.js";
import { passing } from "./passing.js";

/**
 * What of a value in an answer passes: the value, what is left of it, or undefined for nothing. An answer is not searched
 * for what must not pass: of each object a table names the fields that do. Null passes anywhere, and so do numbers and
 * booleans, alone and under a name that is a name; all else that no table knows is left out.
 *
 * @throws {RequestError} upstream_invalid where the answer is none
 */
export type Shape = (value: unknown, reader: Reader) => unknown;
export type Fields = Readonly<Record<string, Shape>>;
export type Channel = "reasoning" | "content";

/** Takes the texts out of an answer while it is read. */
export interface Reader {
  /** Names that pass whatever they hold. */
  readonly open: OpenFields;
  /** What the client asked. */
  readonly request: Json;
  /** The texts of the answer's own that were read so far, joined; without reasoning. */
  readonly content: string;
  /** Whether a text says again what was read before. */
  repeats(text: string): boolean;
  /** Takes a text that belongs to the answer. Gives what stands in its place. */
  text(text: string, channel: Channel, kind: string): unknown;
  /** What becomes of calls of tools. */
  readonly tools: Policy["tools"];
  /** Where in the answer it reads: calls that come in turns are told apart by it. */
  place: string;
  /**
   * Takes the text of a call, to be judged before the call passes.
   *
   * @param json its escapes are read as their characters
   */
  call(text: string, part: string, json: boolean): void;
  /** Takes what passes unread under a name that was opened. */
  opened(value: unknown): unknown;
}

/** Longest name, id or word. */
const WORD = /^[\w.:/@+=~$#-]{0,128}$/;
const LABEL = /^[\w.:/@+=~$#&'(),-]{0,64}( [\w.:/@+=~$#&'(),-]{1,64}){0,3}$/;
const LONGEST_LABEL = 128;
const FIELD = /^[A-Za-z_][\w-]{0,63}$/;
/** Under it the proxy tells of violations; nobody else does. */
const OWN_FIELD = "qwen3guard";
const MOST_UNKNOWN = 32;
const MOST_ENTRIES = 64;
const DEEPEST = 64;

/** An object of known fields where the answer cannot do without one. Texts are taken in the order of the fields. */
export function level(fields: Fields): Shape {
  const known = Object.entries(fields);
  return passing({ fields }, (value, reader) => {
    if (!isRecord(value)) throw invalid("something else where an object belongs");
    const passed: [string, unknown][] = [];
    for (const [name, shape] of known) {
      if (!Object.hasOwn(value, name)) continue;
      const own = value[name];
      passed.push([name, own === null ? null : shape(own, reader)]);
    }
    let unknown = 0;
    for (const [name, own] of Object.entries(value)) {
      if (Object.hasOwn(fields, name) || name === OWN_FIELD) continue;
      if (isScalar(own) && FIELD.test(name)) {
        if (++unknown <= MOST_UNKNOWN) passed.push([name, own]);
      } else if (reader.open.take(name, own)) passed.push([name, reader.opened(any(own, reader))]);
    }
    return Object.fromEntries(passed.filter(([, own]) => own !== undefined));
  });
}

/** An object of known fields; left out where it is none. */
export function object(fields: Fields): Shape {
  const shape = level(fields);
  return passing({ fields }, (value, reader) => (isRecord(value) ? shape(value, reader) : undefined));
}

/**
 * An object whose `type` says which fields it has.
 *
 * @param otherwise the type of one that has none
 * @param unknown the fields of one of another type. Default: it is left out
 */
export function typed(types: Readonly<Record<string, Fields>>, otherwise?: string, unknown?: Fields): Shape {
  const rest = unknown && level({ type: word, ...unknown });
  const shapes = new Map(
    Object.entries(types).map(([type, fields]) => [type, level({ type: word, ...fields })]),
  );
  return passing({ types, others: unknown ?? null }, (value, reader) => {
    if (!isRecord(value)) throw invalid("something else where an object belongs");
    const type = String(value.type ?? otherwise);
    const known = shapes.get(type);
    if (!known) reader.open.leave(type);
    return (known ?? rest)?.(value, reader);
  });
}

/** A list, without the entries of which nothing passes. */
export function list(shape: Shape): Shape {
  return passing({ of: shape }, (value, reader) => {
    if (!Array.isArray(value)) throw invalid("something else where a list belongs");
    return value.map((own) => shape(own, reader)).filter((own) => own !== undefined);
  });
}

/** A list; left out where it is none. */
export function optionalList(shape: Shape): Shape {
  const own = list(shape);
  return passing({ of: shape }, (value, reader) => (Array.isArray(value) ? own(value, reader) : undefined));
}

/** A text of the answer, which is judged. */
export function text(channel: Channel, kind: string): Shape {
  return passing("judged", (value, reader) => {
    if (typeof value !== "string") throw invalid("content that the guard cannot read");
    return value === "" ? "" : reader.text(value, channel, kind);
  });
}

/** A text that says again what is judged elsewhere in the same answer; left out where it does not. */
export const echo: Shape = passing("where it says again what is judged", (value, reader) =>
  isScalar(value) || (typeof value === "string" && reader.repeats(value)) ? value : undefined,
);

/** An id or a word of the API: of ASCII, without white space, up to 128 characters. */
export const word: Shape = passing("a word", (value) =>
  isScalar(value) || (typeof value === "string" && WORD.test(value)) ? value : undefined,
);

/** A name such as a provider's: up to four words of ASCII, 128 characters. */
export const label: Shape = passing("up to four words", (value) =>
  isScalar(value) || (typeof value === "string" && value.length <= LONGEST_LABEL && LABEL.test(value))
    ? value
    : undefined,
);

export const role: Shape = passing("a role", (value) =>
  ["assistant", "user", "system", "developer", "tool", "function"].includes(value as string)
    ? value
    : undefined,
);

/** An address of up to 2048 characters. */
export const url: Shape = passing("an address", (value) =>
  typeof value === "string" && /^https?:\/\/[\x21-\x7e]{1,2040}$/.test(value) ? value : undefined,
);

/** What only its server can read: base64 of up to 1 MiB. */
export const opaque: Shape = passing("base64, which only its server can read", (value) =>
  typeof value === "string" && value.length <= 2 ** 20 && /^[\w+/=.-]*$/.test(value) ? value : undefined,
);

/** Anything that JSON can say: what a tool is called with, or what was opened by name. */
export const any: Shape = (value) => {
  if (tooDeep(value, DEEPEST)) throw invalid("values within values without end");
  return value;
};

const CALLED = "a call: as the policy's `tools` says";

/**
 * What a tool is called with: passes as it is, and not before it was judged where the policy has calls judged.
 *
 * @param part which of a call's texts
 * @param json whether it is JSON
 * @throws {RequestError} tool_call_refused
 */
export function called(part: string, json = true): Shape {
  return passing(CALLED, (value, reader) => {
    const passed = any(value, reader);
    takeCall(typeof value === "string" ? value : JSON.stringify(value), part, json, reader);
    return passed;
  });
}

/** The name of a tool that is called. */
export const calledName: Shape = passing(CALLED, (value, reader) => {
  const name = word(value, reader);
  if (typeof name === "string") takeCall(name, "name", false, reader);
  return name;
});

function takeCall(text: string, part: string, json: boolean, reader: Reader): void {
  if (reader.tools === "refuse") {
    const message = "The model's answer calls a tool, and the policy refuses that.";
    throw new RequestError(502, "tool_call_refused", message);
  }
  if (reader.tools === "judge" && text !== "" && text !== "{}") reader.call(text, part, json);
}

/** Amounts, and objects of such; strings only under the names given, as words. */
export function figures(...words: string[]): Shape {
  const within = (value: unknown, reader: Reader, depth: number): unknown => {
    if (isScalar(value)) return value;
    if (depth === 0) return undefined;
    if (Array.isArray(value)) {
      return value
        .slice(0, MOST_ENTRIES)
        .flatMap((own) => (isRecord(own) ? [within(own, reader, depth)] : []));
    }
    if (!isRecord(value)) return undefined;
    const passed = Object.entries(value)
      .filter(([name]) => FIELD.test(name))
      .slice(0, MOST_ENTRIES)
      .map(([name, own]) => [
        name,
        words.includes(name) && typeof own === "string" ? word(own, reader) : within(own, reader, depth - 1),
      ]);
    return Object.fromEntries(passed.filter(([, own]) => own !== undefined));
  };
  return passing("figures", (value, reader) => within(value, reader, 5));
}

/** What is told of each of several categories: a number, a boolean, or words. */
export const categories: Shape = passing("by category a number, a boolean or words", (value, reader) => {
  if (!isRecord(value)) return undefined;
  const passed = Object.entries(value)
    .filter(([name]) => /^[A-Za-z][\w/-]{0,63}$/.test(name))
    .slice(0, MOST_ENTRIES)
    .map(([name, own]) => [name, Array.isArray(own) ? words(own, reader) : isScalar(own) ? own : undefined]);
  return Object.fromEntries(passed.filter(([, own]) => own !== undefined));
});

const words = optionalList((value, reader) => (typeof value === "string" ? word(value, reader) : undefined));

/** What the request said, said again. */
export function repeated(name: string): Shape {
  return passing("where it says again what was asked", (value, { request }) =>
    isScalar(value) || (request[name] !== undefined && isDeepStrictEqual(value, request[name]))
      ? value
      : undefined,
  );
}

/** The first of several shapes of which something passes. */
export function either(...shapes: Shape[]): Shape {
  return passing({ either: shapes }, (value, reader) => {
    for (const shape of shapes) {
      const passed = shape(value, reader);
      if (passed !== undefined) return passed;
    }
    return undefined;
  });
}

/** A text of a whole answer, in its place: what passed is set once it is judged. */
export class Slot {
  text: string;
  readonly channel: Channel;
  /** It is of a tool's call. */
  readonly call: boolean;

  constructor(text: string, channel: Channel, call = false) {
    this.text = text;
    this.channel = channel;
    this.call = call;
  }

  toJSON(): string {
    return this.text;
  }
}

export function invalid(what: string, options?: ErrorOptions): RequestError {
  return new RequestError(502, "upstream_invalid", `The model's answer holds ${what}.`, options);
}

/** What passes anywhere. */
export function isScalar(value: unknown): value is number | boolean | null {
  return value === null || typeof value === "number" || typeof value === "boolean";
}

function tooDeep(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return depth === 0 || Object.values(value).some((own) => tooDeep(own, depth - 1));
}
