import { InputError } from "../../errors.js";
import { type Json, record } from "../../validation/json.js";

/** What an event of a model's API, or an object of its client's stream, adds to an answer. */
export interface Added {
  reasoning: string;
  content: string;
  /** What it holds that is no text and that a reader of the text alone would miss, in words; null where that is nothing. */
  beside: string | null;
}

const NOTHING: Added = { reasoning: "", content: "", beside: null };

const RESPONSES_DELTA = /^response\.(output_text|refusal|reasoning\w*)\.delta$/;
const RESPONSES_DONE = /^response\.(output_text|refusal|reasoning\w*)\.done$/;

/** Of `/v1/responses`: text, or what the server does by itself on the way to it. */
const PLAIN_ITEMS = [
  "message",
  "reasoning",
  "web_search_call",
  "file_search_call",
  "code_interpreter_call",
  "mcp_call",
  "mcp_list_tools",
];

/** The same of Anthropic's messages. */
const PLAIN_BLOCKS = /^(text|thinking|redacted_thinking|server_tool_use|mcp_tool_use|\w+_tool_result)$/;

/** Parts of LangChain's chunks by the field that has their text. */
const PARTS_TEXT: Readonly<Record<string, string>> = { text: "text", text_delta: "text" };
const PARTS_REASONING: Readonly<Record<string, string>> = { reasoning: "reasoning", thinking: "thinking" };

type Reader = (event: Json) => Added;

const nothing: Reader = () => NOTHING;
const besides =
  (what: string): Reader =>
  () => ({ ...NOTHING, beside: what });

/** Events that are known by their type: those of Anthropic's messages and of the AI SDK. */
const BY_TYPE: Readonly<Record<string, Reader>> = {
  content_block_start: ({ content_block: block }) => {
    const { type } = record(block);
    const plain = type === undefined || PLAIN_BLOCKS.test(text(type));
    return { ...ofBlock(block), beside: plain ? null : called(type) };
  },
  content_block_delta: ({ delta }) => ofBlock(delta),
  "text-delta": ({ text, delta }) => ({ ...NOTHING, content: joined(text, delta) }),
  "reasoning-delta": ({ text, delta }) => ({ ...NOTHING, reasoning: joined(text, delta) }),
  ...each(
    nothing,
    ...["message_start", "message_delta", "message_stop", "content_block_stop", "ping", "keepalive"],
    ...["start", "start-step", "finish-step", "finish", "message-metadata", "stream-start"],
    ...["response-metadata", "text-start", "text-end", "reasoning-start", "reasoning-end"],
    // A raw part repeats what its text says.
    ...["source", "source-url", "source-document", "raw"],
  ),
  ...each(besides("a file"), "file", "reasoning-file"),
  ...each(
    besides("a tool call"),
    ...["tool-input-start", "tool-input-delta", "tool-input-end", "tool-input-available", "tool-input-error"],
    ...["tool-call", "tool-approval-request", "tool-approval-response"],
    ...["tool-result", "tool-error", "tool-output-available", "tool-output-error", "tool-output-denied"],
  ),
  ...each(besides("a part of the application's own"), "custom", "steering-message", "reset-step"),
};

/**
 * Reads events one by one, by their shape: of OpenAI's chat completions, completions and responses, of Anthropic's
 * messages, of Ollama's chat and generate, of LangChain (`AIMessageChunk`) and of the AI SDK (parts of its streams, chunks
 * of its UI messages). The one place that knows where an answer's text is.
 */
export class ModelEvents {
  readonly #source: string;
  /** Of a response: all that came, as later events say it over again. */
  #said = "";

  /** @param source what the events come from, for messages */
  constructor(source: string) {
    this.#source = source;
  }

  /**
   * Where an event holds text in several fields, all of it counts.
   *
   * @param where the event, for messages
   * @returns null where it has none of these shapes
   * @throws {InputError} EVENT_INVALID: a second choice, which would be another text; content that is no text.
   *   UPSTREAM_CUT: the answer was broken off
   */
  read(event: Json, where: string): Added | null {
    if (Array.isArray(event.choices)) return this.#ofChoices(event.choices.map(record), where);
    if (isLangChain(event)) return this.#ofLangChain(event, where);
    const type = text(event.type);
    if (type.startsWith("response.")) return this.#ofResponse(event, type);
    if (type.startsWith("data-")) return { ...NOTHING, beside: "a part of the application's own" };
    if (type === "abort") throw cut("was aborted before its answer was finished");
    if (type !== "") return Object.hasOwn(BY_TYPE, type) ? BY_TYPE[type](event) : null;
    const { message, response } = event;
    const chat = typeof message === "object" && message !== null;
    return chat || typeof response === "string" ? ofOllama(event) : null;
  }

  #ofChoices(choices: Json[], where: string): Added {
    const added = { ...NOTHING };
    for (const choice of choices) {
      if (Number(choice.index ?? 0) !== 0) {
        throw this.invalid(`${where} belongs to a second choice; ask for one (n: 1)`);
      }
      for (const said of [choice.delta, choice.message].map(record)) {
        const parts = this.#parts(said.content, where);
        added.reasoning += joined(said.reasoning_content, said.reasoning) + parts.reasoning;
        added.content += parts.content + text(said.refusal);
        if (isFilled(said.tool_calls) || said.function_call) added.beside = "a tool call";
        if (said.audio) added.beside = "audio";
      }
      added.content += text(choice.text);
    }
    return added;
  }

  /** A message's content: a text, or parts as Mistral writes them. */
  #parts(content: unknown, where: string): Added {
    if (typeof content !== "object" || content === null) return { ...NOTHING, content: text(content) };
    if (!Array.isArray(content)) throw this.invalid(`the content of ${where} is no text`);
    const added = { ...NOTHING };
    for (const part of content.map(record)) {
      const own = part.type === "thinking" ? this.#parts(part.thinking, where) : null;
      if (own) added.reasoning += own.reasoning + own.content;
      else if (part.type === "text" && typeof part.text === "string") added.content += part.text;
      else throw this.invalid(`the content of ${where} is no text`);
    }
    return added;
  }

  /** Of `/v1/responses`: deltas, and what is said at the end of a text without having come in any. */
  #ofResponse(event: Json, type: string): Added {
    const [, of = ""] = RESPONSES_DELTA.exec(type) ?? RESPONSES_DONE.exec(type) ?? [];
    let told = "";
    if (RESPONSES_DELTA.test(type)) told = text(event.delta);
    else if (of !== "") told = this.#unsaid([text(event.text) + text(event.refusal)]);
    else if (isLast(event)) told = this.#unsaid(outputTexts(event.response));
    this.#said += told;
    const beside = type.startsWith("response.audio.") ? "audio" : besideText(event.item);
    return of.startsWith("reasoning")
      ? { reasoning: told, content: "", beside }
      : { reasoning: "", content: told, beside };
  }

  #unsaid(texts: string[]): string {
    return texts.filter((told) => !this.#said.includes(told)).join("");
  }

  #ofLangChain(event: Json, where: string): Added {
    const { content, additional_kwargs: more, tool_call_chunks: pieces, tool_calls: calls } = event;
    const added = { ...NOTHING, reasoning: text(record(more).reasoning_content) };
    if (isFilled(pieces) || isFilled(calls)) added.beside = "a tool call";
    if (!Array.isArray(content)) return { ...added, content: text(content) };
    for (const part of content) {
      const type = typeof part === "string" ? "" : text(record(part).type);
      if (typeof part === "string") added.content += part;
      else if (Object.hasOwn(PARTS_TEXT, type)) added.content += text(record(part)[PARTS_TEXT[type]]);
      else if (Object.hasOwn(PARTS_REASONING, type)) {
        added.reasoning += text(record(part)[PARTS_REASONING[type]]);
      } else if (type === "") throw this.invalid(`a part of ${where} has no type`);
      else added.beside = called(type);
    }
    return added;
  }

  invalid(what: string, options?: ErrorOptions): InputError {
    return new InputError("EVENT_INVALID", `This is not ${this.#source} as it should be: ${what}.`, options);
  }
}

/** Whether an event says that the answer is at its end. */
export function isLast(event: Json): boolean {
  const choices = Array.isArray(event.choices) ? event.choices.map(record) : [];
  return (
    choices.some(({ finish_reason: reason }) => typeof reason === "string" && reason !== "") ||
    ["response.completed", "response.incomplete", "message_stop", "finish"].includes(text(event.type)) ||
    text(record(event.delta).stop_reason) !== "" ||
    event.done === true
  );
}

export function cut(how: string): InputError {
  return new InputError("UPSTREAM_CUT", `The model's stream ${how}. What came was judged.`);
}

/** By its method, which is the same in all versions: it is an instance of a class of the library's own copy. */
function isLangChain(event: Json): boolean {
  const { getType, _getType: earlier } = event as { getType?: unknown; _getType?: unknown };
  const ask = typeof getType === "function" ? getType : earlier;
  return typeof ask === "function" && ask.call(event) === "ai";
}

function ofOllama(event: Json): Added {
  const message = record(event.message);
  return {
    reasoning: joined(message.thinking, event.thinking),
    content: joined(message.content, event.response),
    beside: isFilled(message.tool_calls) ? "a tool call" : null,
  };
}

/** Of Anthropic's messages. */
function ofBlock(said: unknown): Added {
  const { thinking, text: own } = record(said);
  return { reasoning: text(thinking), content: text(own), beside: null };
}

function besideText(item: unknown): string | null {
  const { type } = record(item);
  return type === undefined || PLAIN_ITEMS.includes(text(type)) ? null : called(type);
}

/** A type as a server names it. */
function called(type: unknown): string {
  const named = text(type);
  if (/^(tool_use|function_call|custom_tool_call|tool_call|tool_call_chunk)$/.test(named))
    return "a tool call";
  return /^\w{1,40}$/.test(named) ? `a part of type ${named}` : "a part of unknown type";
}

/** The texts of a whole response. */
function outputTexts(response: unknown): string[] {
  const items = record(response).output;
  const parts = (Array.isArray(items) ? items : []).map(record).flatMap(({ content }) => content ?? []);
  return parts.map((part) => text(record(part).text) + text(record(part).refusal));
}

function each(reader: Reader, ...types: string[]): Record<string, Reader> {
  return Object.fromEntries(types.map((type) => [type, reader]));
}

/** Texts of fields that servers name in several ways; the same twice counts once. */
function joined(...values: unknown[]): string {
  return [...new Set(values.map(text))].join("");
}

function isFilled(list: unknown): boolean {
  return Array.isArray(list) && list.length > 0;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
