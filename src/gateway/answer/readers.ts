import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import { JsonText } from "../../gate/json-text.js";
import type { Part } from "../../gate/parts.js";
import type { Policy } from "../../moderation/policy.js";
import type { Json } from "../../validation/json.js";
import type { RequestError } from "../api-error.js";
import { type Channel, invalid, type Reader, Slot } from "./allow-list.js";
import type { CodecOptions } from "./codec.js";
import type { OpenFields } from "./open-fields.js";

/** Texts of an answer, or of an event: no server sends more, and each goes to the guard on its own. */
const MOST_TEXTS = 4096;
/** UTF-16 units that are searched for texts said over again: the event loop waits for it, some tens of milliseconds. */
const MOST_SEARCHED = 2 ** 24;

/** Finds texts that say again what was said, within a bound on the work. */
export class Echoes {
  readonly #said: readonly string[];
  readonly #whole: ReadonlySet<string>;
  readonly #cost: number;
  #left = MOST_SEARCHED;

  constructor(said: readonly string[]) {
    this.#said = said;
    this.#whole = new Set(said);
    this.#cost = said.reduce((sum, text) => sum + text.length, 0);
  }

  has(text: string): boolean {
    // Nearly always it is a whole text that is said again.
    if (this.#whole.has(text)) return true;
    this.#left -= this.#cost;
    return this.#left >= 0 && this.#said.some((said) => said.includes(text));
  }
}

/** Reads a whole answer: texts become slots, to be judged and set. */
export class WholeReader implements Reader {
  readonly open: OpenFields;
  readonly request: Json;
  readonly tools: Policy["tools"];
  place = "";
  readonly slots: Slot[] = [];
  readonly #hidden: Hidden;
  #echoes: Echoes | null = null;
  content = "";

  constructor({ open, request, tools = "pass" }: CodecOptions, hidden: Hidden) {
    this.tools = tools;
    this.open = open;
    this.request = request;
    this.#hidden = hidden;
  }

  text(text: string, channel: Channel): Slot {
    if (this.slots.length === MOST_TEXTS) throw tooMany();
    const slot = new Slot(text, channel);
    this.#echoes = null;
    if (channel === "content") this.content += text;
    this.slots.push(slot);
    return slot;
  }

  repeats(text: string): boolean {
    this.#echoes ??= new Echoes(this.slots.map((slot) => slot.text));
    return this.#echoes.has(text);
  }

  /** A call is judged beside the texts: an answer that is stopped keeps none. */
  call(text: string, _part: string, json: boolean): void {
    if (this.slots.length === MOST_TEXTS) throw tooMany();
    const read = new JsonText();
    this.slots.push(new Slot(json ? read.push(text) + read.end() : text, "content", true));
  }

  /** What was opened on purpose may still say what was stopped. */
  opened(value: unknown): unknown {
    const hidden = this.#hidden;
    return { toJSON: () => (hidden.hidden ? undefined : value) };
  }
}

/** Whether opened fields are left out after all. */
export interface Hidden {
  hidden: boolean;
}

/** A text that an event holds. */
export interface Said {
  text: string;
  channel: Channel;
  kind: string;
}

/** A text of a tool's call that an event holds, to be judged ahead of it. */
export interface Call {
  text: string;
  /** Which text of which call. */
  key: string;
  json: boolean;
}

/** Has the calls of an event judged, as part of the answer. */
export function judgeCalls<T extends object>(
  calls: readonly Call[],
  formatter: AnswerFormatter<T>,
): Part<T>[] {
  return calls.flatMap(({ text, key, json }) => formatter.beside(text, key, json));
}

/** Reads an event of a stream: texts are taken out of it. */
export class EventReader implements Reader {
  readonly open: OpenFields;
  readonly request: Json;
  readonly tools: Policy["tools"];
  place = "";
  readonly texts: Said[] = [];
  readonly calls: Call[] = [];
  #echoes: Echoes | null = null;
  content: string;

  /** @param before text that came before, and that log probabilities may still tell of */
  constructor({ open, request, tools = "pass" }: CodecOptions, before = "") {
    this.tools = tools;
    this.open = open;
    this.request = request;
    this.content = before;
  }

  text(text: string, channel: Channel, kind: string): undefined {
    if (this.texts.length === MOST_TEXTS) throw tooMany();
    this.#echoes = null;
    if (channel === "content") this.content += text;
    this.texts.push({ text, channel, kind });
  }

  repeats(text: string): boolean {
    this.#echoes ??= new Echoes(this.texts.map((said) => said.text));
    return this.#echoes.has(text);
  }

  call(text: string, part: string, json: boolean): void {
    if (this.calls.length === MOST_TEXTS) throw tooMany();
    this.calls.push({ text, key: `${this.place} ${part}`, json });
  }

  opened(value: unknown): unknown {
    return value;
  }
}

function tooMany(): RequestError {
  return invalid(`more than ${MOST_TEXTS} texts`);
}
