import { isRecord, type Json, record, text } from "../../validation/json.js";
import type { Event } from "../answer/codec.js";

interface OpenPart {
  /** Name of its events, such as `response.output_text`. */
  name: string;
  /** Where it belongs, as its events say it. */
  at: Json;
  said: string;
  textOpen: boolean;
  open: boolean;
}

interface OpenItem {
  index: unknown;
  item: Json;
  /** Whether it was told of, and not closed yet. */
  open: boolean;
  parts: Map<string, OpenPart>;
  /** Name of the events that bring a call's arguments, and what they have brought. */
  call: { name: string; field: string; said: string; open: boolean } | null;
}

const PARTS: Record<string, { name: string; field: string; list: "content" | "summary"; events: string }> = {
  output_text: { name: "response.output_text", field: "text", list: "content", events: "content_part" },
  refusal: { name: "response.refusal", field: "refusal", list: "content", events: "content_part" },
  reasoning_text: { name: "response.reasoning_text", field: "text", list: "content", events: "content_part" },
  summary_text: {
    name: "response.reasoning_summary_text",
    field: "text",
    list: "summary",
    events: "reasoning_summary_part",
  },
};
const CALLS: Record<string, string> = {
  "response.function_call_arguments": "arguments",
  "response.mcp_call_arguments": "arguments",
  "response.custom_tool_call_input": "input",
  "response.code_interpreter_call_code": "code",
};

/** What of a response has been told to the client, so that what is open can be closed when it is stopped. */
export class OpenItems {
  readonly #items = new Map<unknown, OpenItem>();

  /** Messages and reasoning as far as they were told. */
  get output(): Json[] {
    return [...this.#items.values()]
      .filter(({ item, parts }) => (item.type === "message" && parts.size > 0) || item.type === "reasoning")
      .map(whole);
  }

  /** The number of an item that comes after those that were told. */
  get next(): number {
    const indexes = [...this.#items.values()].map(({ index }) => Number(index));
    return Math.max(-1, ...indexes.filter(Number.isInteger)) + 1;
  }

  /** Takes an event that goes out. */
  take(event: Event): void {
    const type = text(event.type);
    const [, name, what] = /^(.*)\.(\w+)$/.exec(type) ?? [];
    if (name === "response.output_item") {
      const own = this.#itemOf(event);
      own.item = record(event.item);
      own.open = what === "added";
    } else if (name === "response.content_part" || name === "response.reasoning_summary_part") {
      this.#takePart(event, what === "added");
    } else if (CALLS[name] !== undefined) {
      const own = this.#itemOf(event);
      own.call ??= { name, field: CALLS[name], said: "", open: true };
      own.call.said += text(event.delta);
      own.call.open = what !== "done";
    } else {
      const kind = Object.keys(PARTS).find((own) => PARTS[own].name === name);
      if (kind && what === "delta") this.#partOf(event, kind).said += text(event.delta);
      else if (kind && what === "done") this.#partOf(event, kind).textOpen = false;
    }
  }

  /** The events that close what is open. */
  close(): Event[] {
    return [...this.#items.values()].flatMap((own): Event[] => {
      if (!own.open) return [];
      own.item = { ...own.item, status: "incomplete" };
      const { item, index } = own;
      const at = { item_id: item.id, output_index: index };
      const { call } = own;
      const called: Event[] =
        call?.open === true ? [{ type: `${call.name}.done`, ...at, [call.field]: call.said }] : [];
      const closing = { type: "response.output_item.done", output_index: index, item: whole(own) };
      return [...[...own.parts.values()].flatMap(closePart), ...called, closing];
    });
  }

  #takePart(event: Event, added: boolean): void {
    const kind = text(record(event.part).type);
    if (!Object.hasOwn(PARTS, kind)) return;
    const part = this.#partOf(event, kind);
    part.open = added;
    part.textOpen = added;
  }

  #itemOf({ output_index, item_id, item }: Event): OpenItem {
    const id = item_id ?? record(item).id;
    const key = output_index ?? id;
    let own = this.#items.get(key);
    if (!own) {
      own = { index: output_index, item: { id }, open: false, parts: new Map(), call: null };
      this.#items.set(key, own);
    }
    return own;
  }

  #partOf(event: Event, kind: string): OpenPart {
    const own = this.#itemOf(event);
    if (own.item.type === undefined) own.item = implied(own.item, kind);
    const { item_id, output_index, content_index, summary_index } = event;
    const key = `${kind} ${content_index} ${summary_index}`;
    let part = own.parts.get(key);
    if (!part) {
      const at = { item_id, output_index, content_index, summary_index };
      part = { name: kind, at, said: "", textOpen: false, open: false };
      own.parts.set(key, part);
    }
    return part;
  }
}

/** An item that text came for before anything was told of it. */
function implied(item: Json, kind: string): Json {
  const reasons = kind === "reasoning_text" || kind === "summary_text";
  return reasons ? { ...item, type: "reasoning" } : { ...item, type: "message", role: "assistant" };
}

function closePart(part: OpenPart): Event[] {
  const { name, field, events } = PARTS[part.name];
  const closing: Event[] = [];
  if (part.textOpen) {
    const logprobs = part.name === "output_text" ? { logprobs: [] } : {};
    closing.push({ type: `${name}.done`, ...part.at, [field]: part.said, ...logprobs });
  }
  if (part.open) closing.push({ type: `response.${events}.done`, ...part.at, part: written(part) });
  part.open = false;
  part.textOpen = false;
  return closing;
}

function written({ name, said }: OpenPart): Json {
  const extra = name === "output_text" ? { annotations: [], logprobs: [] } : {};
  return { type: name, [PARTS[name].field]: said, ...extra };
}

/** An item with all that was told of it. */
function whole({ item, parts, call }: OpenItem): Json {
  const { encrypted_content: _, ...own } = item;
  const of = (list: string) =>
    [...parts.values()].filter(({ name }) => PARTS[name].list === list).map(written);
  if (item.type === "message") return { ...own, status: "incomplete", content: of("content") };
  if (item.type === "reasoning") {
    const content = of("content");
    return { ...own, status: "incomplete", summary: of("summary"), ...(content.length > 0 && { content }) };
  }
  return { ...own, ...(call && isRecord(own) && { [call.field]: call.said }) };
}
