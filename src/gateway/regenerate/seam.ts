import { isRecord, type Json, list, record } from "../../validation/json.js";
import { Repeated } from "./repeated.js";

/** What a client has been sent of a streamed answer. */
export interface Sent {
  /** Whether its answer has begun. */
  begun: boolean;
  /** Numbered parts of it: how many, and which are open. */
  parts: number;
  open: readonly number[];
}

/**
 * Makes the events of several answers, each of which goes on from the one before, those of one. Events go through it as the
 * model's server sends them, before anything is read.
 */
export interface Seam {
  /** The stretch of the answer that is gone on with, as its codec names it. */
  readonly key: unknown;
  /** Whether all that came was a text's: nothing else can be gone on with. */
  readonly plain: boolean;
  /** Another answer begins, which goes on from what the client has; what it says again of that goes through `repeated`. */
  next(sent: Sent, repeated: Repeated): void;
  /** An event as one of the first answer's, and what that needs before it; nothing where it has the event already. */
  join(event: Json): Json[];
  /** Whether a whole answer is one text at most, and nothing else. */
  isText(body: Json): boolean;
  /** Tells in a whole answer how the one that goes on from it ended, and what both used. */
  joinWhole(body: Json, more: Json): void;
}

/** The sum of what two answers used, name by name. */
function added(before: unknown, more: unknown): unknown {
  if (isRecord(before) && isRecord(more)) {
    const names = new Set([...Object.keys(before), ...Object.keys(more)]);
    return Object.fromEntries([...names].map((name) => [name, added(before[name], more[name])]));
  }
  if (typeof before === "number" && typeof more === "number") return before + more;
  return more ?? before;
}

/** Fields that are the same in all events of an answer. */
const OF_THE_ANSWER = ["id", "object", "created", "model", "system_fingerprint", "service_tier"];
/** What of a delta is a text's, or says nothing. */
const TEXT_FIELDS = ["role", "content"];

/** Whether a field of a message or a delta says something beside its text. */
function saysMore([name, value]: [string, unknown]): boolean {
  if (TEXT_FIELDS.includes(name) || value === null || value === "") return false;
  return !Array.isArray(value) || value.length > 0;
}

/** Of chat completions. */
export class ChatSeam implements Seam {
  readonly key = "content";
  plain = true;
  #first: Json | null = null;
  #begun = false;
  #again = false;
  /** Of the answers before, and of this one as far as its server has told. */
  #before: unknown;
  #usage: unknown;
  #repeated = new Repeated("");

  next({ begun }: Sent, repeated: Repeated): void {
    this.#begun = begun;
    this.#repeated = repeated;
    this.#again = true;
    this.#before = added(this.#before, this.#usage);
    this.#usage = undefined;
  }

  join(event: Json): Json[] {
    this.#first ??= Object.fromEntries(
      OF_THE_ANSWER.flatMap((name) => (name in event ? [[name, event[name]]] : [])),
    );
    const joined: Json = { ...event, ...(this.#again && this.#first) };
    if (isRecord(event.usage)) {
      this.#usage = event.usage;
      joined.usage = added(this.#before, event.usage);
    }
    if (Array.isArray(event.choices)) joined.choices = event.choices.map((choice) => this.#choice(choice));
    return [joined];
  }

  isText({ choices }: Json): boolean {
    const [{ message }, ...more] = list(choices).map(record);
    return more.length === 0 && !Object.entries(record(message)).some(saysMore);
  }

  joinWhole(body: Json, more: Json): void {
    record(list(body.choices)[0]).finish_reason = record(list(more.choices)[0]).finish_reason;
    body.usage = added(body.usage, more.usage);
  }

  #choice(choice: unknown): unknown {
    if (!isRecord(choice)) return choice;
    const delta = record(choice.delta);
    if (Object.entries(delta).some(saysMore) || Array.isArray(delta.content)) this.plain = false;
    const said = typeof delta.content === "string" ? this.#repeated.push(delta.content) : "";
    const text = choice.finish_reason ? said + this.#repeated.end() : said;
    // The client knows whose answer it is.
    const { role, ...rest } = delta;
    const joined: Json = this.#begun ? rest : { ...delta };
    if (typeof delta.content === "string" || text !== "") joined.content = text;
    return isRecord(choice.delta) || text !== "" ? { ...choice, delta: joined } : choice;
  }
}

/** Of Anthropic's messages. */
export class MessageSeam implements Seam {
  key: unknown = 0;
  plain = true;
  #begun = false;
  /** The client's number of each block. */
  #numbers = new Map<unknown, number>();
  #blocks = 0;
  /** The block that is gone on with: its beginning was sent. */
  #open: number | null = null;
  #before: unknown;
  #usage: unknown;
  #repeated = new Repeated("");

  next({ begun, parts, open }: Sent, repeated: Repeated): void {
    this.#begun = begun;
    this.#repeated = repeated;
    this.#numbers.clear();
    this.#blocks = parts;
    this.#open = open.at(-1) ?? null;
    this.key = this.#open ?? parts;
    this.#before = added(this.#before, this.#usage);
    this.#usage = undefined;
  }

  join(event: Json): Json[] {
    const { type } = event;
    if (type === "message_start") {
      this.#usage = record(record(event.message).usage);
      return this.#begun ? [] : [event];
    }
    if (type === "content_block_start") return this.#start(event);
    const index = this.#numbers.get(event.index) ?? event.index;
    if (type === "content_block_delta") return this.#delta({ ...event, index });
    if (type === "content_block_stop") {
      return [...this.#text(index, this.#repeated.end()), { ...event, index }];
    }
    if (type !== "message_delta") return [event];
    return [...this.#close(), isRecord(event.usage) ? this.#summed(event, event.usage) : event];
  }

  #delta(event: Json): Json[] {
    const { type, text } = record(event.delta);
    if (type !== "text_delta") this.plain = false;
    if (type !== "text_delta" || typeof text !== "string") return [event];
    return this.#text(event.index, this.#repeated.push(text));
  }

  #text(index: unknown, text: string): Json[] {
    return text === "" ? [] : [{ type: "content_block_delta", index, delta: { type: "text_delta", text } }];
  }

  #summed(event: Json, usage: Json): Json {
    this.#usage = { ...record(this.#usage), ...usage };
    const told = added(this.#before, this.#usage) as Json;
    return {
      ...event,
      usage: Object.fromEntries(Object.keys(usage).map((name) => [name, told[name]])),
    };
  }

  isText({ content }: Json): boolean {
    const blocks = list(content).map(record);
    return blocks.length <= 1 && blocks.every(({ type }) => type === "text");
  }

  joinWhole(body: Json, { stop_reason, stop_sequence, usage }: Json): void {
    Object.assign(body, { stop_reason, stop_sequence, usage: added(body.usage, usage) });
  }

  /** The end of a block that nothing goes on with. */
  #close(): Json[] {
    const index = this.#open;
    this.#open = null;
    return index === null ? [] : [{ type: "content_block_stop", index }];
  }

  #start(event: Json): Json[] {
    const isText = record(event.content_block).type === "text";
    if (!isText) this.plain = false;
    if (isText && this.#open !== null) {
      const index = this.#open;
      this.#numbers.set(event.index, index);
      this.#open = null;
      const { text } = record(event.content_block);
      return typeof text === "string" ? this.#text(index, this.#repeated.push(text)) : [];
    }
    const number = this.#blocks++;
    this.#numbers.set(event.index, number);
    return [...this.#close(), { ...event, index: number }];
  }
}
