import type { Policy } from "../../moderation/policy.js";
import { TYPE_WORDS, textsIn } from "../../tokenizer/chat-template/standing.js";
import { isRecord, type Json, list } from "../../validation/json.js";
import { quotedName } from "../../validation/quoted.js";
import { RequestError } from "../api-error.js";

/**
 * What becomes of a known field. Numbers, booleans and null pass under any name that is one.
 *
 * read: taken by its reader. word: an identifier passes, a text in its place is judged. text: judged, with the names of
 * its fields. settings: words; a text is judged, and so are a list and an object. unread: steers decoding and is read by no
 * model; what it makes a model say is judged. sealed: encrypted or signed by the server that made it, passes and is counted;
 * a text in its place is judged. refused: cannot be judged.
 */
export type Rule = "read" | "word" | "settings" | "text" | "unread" | "sealed" | "refused" | Fields;
/** The fields of an object, or of each object in a list. */
export interface Fields {
  readonly [field: string]: Rule;
}

/** Why something went on that nobody judged. */
export type Unjudged = "field" | "part" | "attachment" | "sealed" | "stored" | "tool";

/** Texts that are part of no message. */
export interface Beside {
  /** What goes with each request of a conversation as it is: tools, schemas. */
  standing: readonly string[];
  /** What may be of this request alone: documents, variables … */
  passing: readonly string[];
}

/** No spaces, and short: names, ids, settings. */
const WORD = /^[!-~]{0,128}$/;
/** Base64 of any kind: what a server has encrypted or signed. */
const SEALED = /^[\w+/=.-]*$/;

/** Fields of requests that clients send with each turn of a conversation as they were. */
const STANDING = new Set(
  `tools functions response_format text format output_format output_config json_schema guided_json guided_choice
  structured_outputs structural_tag chat_template_kwargs`.split(/\s+/),
);

/** Goes through what stands in a request beside its messages: finds its texts, refuses what cannot be judged. */
export class FieldReader {
  /** What went on unjudged. */
  readonly unjudged: Unjudged[] = [];
  readonly policy: Policy;
  readonly #passed: readonly string[];

  /** @param passed names of fields that pass unjudged on purpose */
  constructor(policy: Policy, passed: readonly string[] = []) {
    this.policy = policy;
    this.#passed = passed;
  }

  /**
   * The texts among an object's fields, in order.
   *
   * @param where the object, for messages: "the request", "message 2"
   * @throws {RequestError} body_invalid, field_unjudged
   */
  texts(object: Json, fields: Fields, where: string): string[] {
    return Object.entries(object).flatMap(([name, value]) => {
      if (Object.hasOwn(fields, name)) return this.#known(name, value, fields[name], where);
      rejectSpelling(name, fields, where);
      return this.#unknown(name, value, where);
    });
  }

  /** As `texts`, of a request: those that stay from one request of a conversation to the next, and those that may not. */
  beside(request: Json, fields: Fields): Beside {
    const entries = Object.entries(request);
    const of = (standing: boolean) => entries.filter(([name]) => STANDING.has(name) === standing);
    const texts = (standing: boolean) => this.texts(Object.fromEntries(of(standing)), fields, "the request");
    return { standing: texts(true), passing: texts(false) };
  }

  /** Lets something go unjudged where the policy says so. @throws {RequestError} field_unjudged */
  pass(kind: Unjudged, what: string, name?: string): void {
    if (this.policy.unjudged !== "pass" && !(name !== undefined && this.#passed.includes(name))) {
      const way = name === undefined || !WORD.test(name) ? "" : `with --pass-fields ${name}, or anything `;
      throw refusal(
        `${kind}_unjudged`,
        `The guard cannot judge ${what}. Leave it out, or let it pass unjudged: ${way}with "unjudged": "pass" in the policy.`,
      );
    }
    this.unjudged.push(kind);
  }

  #known(name: string, value: unknown, rule: Rule, where: string): string[] {
    if (typeof rule === "object") {
      if (typeof value === "string" && value !== "") return WORD.test(value) ? [] : [value];
      const objects = Array.isArray(value) ? value : [value];
      return objects.flatMap((object) =>
        isRecord(object) ? this.texts(object, rule, `${name} of ${where}`) : textsIn(object),
      );
    }
    // A format is a word or a schema.
    if (rule === "text") return TYPE_WORDS.has(value as string) ? [] : textsIn(value);
    if (rule === "settings") return settingsIn(value);
    if (rule === "word") return textsIn(value).filter((text) => !WORD.test(text));
    if (rule === "sealed") {
      if (holdsText(value)) this.unjudged.push("sealed");
      return textsIn(value).filter((text) => !SEALED.test(text));
    }
    if (rule === "refused") return this.#unknown(name, value, where);
    return [];
  }

  #unknown(name: string, value: unknown, where: string): [] {
    // A name can be a text as well.
    if (holdsText(value) || !WORD.test(name))
      this.pass("field", `the field ${quotedName(name)} of ${where}`, name);
    return [];
  }
}

/** The texts among settings. Words in a list or an object may be those of a text, and are one. */
function settingsIn(value: unknown): string[] {
  if (!isRecord(value)) return textsIn(value);
  return Object.entries(value).flatMap(([name, own]) => {
    if (typeof own !== "object") return textsIn([name, own]).filter((text) => !WORD.test(text));
    return textsIn([textsIn({ [name]: own }).join(" ")]);
  });
}

/** Whether there may be text in a value: lists of numbers may be token ids. */
function holdsText(value: unknown): boolean {
  if (typeof value === "string" || Array.isArray(value)) return value.length > 0;
  return isRecord(value) && Object.keys(value).length > 0;
}

/** Refuses a field in capitals: servers in Go, Ollama for one, take it for the field that is known. */
function rejectSpelling(name: string, fields: Fields, where: string): void {
  // There and back, as some letters have two small or two capital forms.
  const folded = name.toLowerCase().toUpperCase().toLowerCase();
  if (folded === name || !Object.hasOwn(fields, folded)) return;
  throw refusal("body_invalid", `The field ${quotedName(name)} of ${where} must be spelled "${folded}".`);
}

/** The objects of a list. @throws {RequestError} body_invalid */
export function objectsOf(value: unknown, what: string): Json[] {
  if (value === undefined || value === null) return [];
  const objects = list(value);
  if (Array.isArray(value) && objects.every(isRecord)) return objects;
  throw refusal("body_invalid", `${what} must be a list of objects.`);
}

/** An error whose message may quote the request: it goes to the client, and into no log. */
export function refusal(code: string, message: string): RequestError {
  return new RequestError(400, code, "The request holds what the guard cannot judge.", { told: { message } });
}
