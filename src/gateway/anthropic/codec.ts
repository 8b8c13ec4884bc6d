import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { ModerationViolation } from "../../gate/violation.js";
import { isRecord, type Json, list, record, text } from "../../validation/json.js";
import { invalid, level, Slot } from "../answer/allow-list.js";
import type { CodecOptions, Event, ResponseCodec, Routed, StreamCodec, TextTarget } from "../answer/codec.js";
import { EVENT_STREAM } from "../answer/media.js";
import { EventReader, judgeCalls, type Said } from "../answer/readers.js";
import { wholeAnswer } from "../answer/whole-answer.js";
import type { RequestError } from "../api-error.js";
import type { Sent } from "../regenerate/seam.js";
import { eventShapes, messageFields } from "./fields.js";

const wholeMessage = level(messageFields);
/** The field of a delta, by its type, that brings text. */
const TEXT_FIELDS: Record<string, string> = { text_delta: "text", thinking_delta: "thinking" };

/** Of Anthropic's `/v1/messages`. */
export const anthropicCodec: ResponseCodec = {
  media: EVENT_STREAM,
  refuses: true,
  error: anthropicError,
  stream: (options, [formatter]) => new MessageAnswer(options, formatter),

  whole(body, options) {
    if (!Array.isArray(body.content)) throw invalid("no content");
    return wholeAnswer(body, options, wholeMessage, (passed, replacement, violation) => {
      const content =
        replacement === null
          ? list(passed.content).map(record).flatMap(cut)
          : [{ type: "text", text: replacement, citations: null }];
      return { ...passed, content, ...refused(violation), qwen3guard: violation.toJSON() };
    });
  },

  annotate: (body) => body,
  blank: ({ request }) => blankMessage(request.model),
};

/** An answer in numbered blocks, as its events tell of it. */
class MessageAnswer implements StreamCodec {
  readonly terminator = null;
  readonly #options: CodecOptions;
  readonly #formatter: AnswerFormatter<Event | TextTarget | Slot>;
  readonly #targets = new Map<string, TextTarget>();
  /** Of each block, where its text went last. */
  readonly #texts = new Map<unknown, TextTarget>();
  /** Of what was sent: whether the message has begun, its blocks, and those that are open. */
  #begun = false;
  #blocks = 0;
  readonly #open = new Set<unknown>();
  #outputTokens: unknown = 0;
  #ended = false;

  constructor(options: CodecOptions, formatter: AnswerFormatter<Event | TextTarget | Slot>) {
    this.#options = options;
    this.#formatter = formatter;
  }

  read(event: Json): Routed[] {
    const type = text(event.type);
    if (!Object.hasOwn(eventShapes, type)) return [];
    const reader = new EventReader(this.#options);
    reader.place = `block ${event.index}`;
    const passed = eventShapes[type](event, reader) as Json;
    if (type.startsWith("content_block_") && typeof passed.index !== "number") {
      throw invalid("a block without a number");
    }
    const calls = judgeCalls(reader.calls, this.#formatter).map((part) => ({ choice: 0, part }));
    if (type === "content_block_delta") return [...calls, ...this.#delta(passed, reader.texts)];
    if (type === "content_block_start") return [...calls, ...this.#start(passed, reader.texts)];
    if (type === "content_block_stop") return [...this.#endText(passed.index), item(passed, false)];
    this.#ended ||= type === "message_stop";
    const ends = type === "message_delta" || type === "message_stop";
    return [item(passed, type !== "message_start", ends)];
  }

  ended(): boolean {
    return this.#ended;
  }

  stop(_choice: number, violation: ModerationViolation): Event[] {
    const start = { type: "message_start", message: blankMessage(this.#options.request.model) };
    const replacement = this.#options.replacement(violation);
    return [
      ...(this.#begun ? [] : [start]),
      ...[...this.#open].map((index) => ({ type: "content_block_stop", index })),
      ...(replacement === null ? [] : textBlock(this.#blocks, replacement)),
      {
        type: "message_delta",
        delta: refused(violation),
        usage: { output_tokens: this.#outputTokens },
        qwen3guard: violation.toJSON(),
      },
      { type: "message_stop" },
    ];
  }

  fail(failure: RequestError): Event {
    return anthropicError(failure);
  }

  keepAlive(): string {
    return this.frame({ type: "ping" });
  }

  get sent(): Sent {
    return { begun: this.#begun, parts: this.#blocks, open: [...this.#open].map(Number) };
  }

  frame(event: Event): string {
    const { type, index, message, usage } = event;
    if (type === "message_start") {
      this.#begun = true;
      this.#outputTokens = record(record(message).usage).output_tokens ?? 0;
    } else if (type === "content_block_start") {
      this.#open.add(index);
      this.#blocks = Math.max(this.#blocks, Number(index) + 1);
    } else if (type === "content_block_stop") this.#open.delete(index);
    else if (type === "message_delta") this.#outputTokens = record(usage).output_tokens ?? this.#outputTokens;
    return `event: ${type}\ndata: ${JSON.stringify(event)}\n\n`;
  }

  #start(passed: Json, texts: readonly Said[]): Routed[] {
    const { content_block, index } = passed;
    if (!isRecord(content_block)) throw invalid("a block that is no object");
    const { type } = content_block;
    const empty = type === "text" ? { text: "" } : type === "thinking" ? { thinking: "" } : {};
    const opened = { ...passed, content_block: { ...content_block, ...empty } };
    // A call goes out by itself, and does not wait for more text.
    return [
      item(opened, type !== "text" && type !== "thinking" && this.#options.tools !== "judge"),
      ...texts.flatMap((said) =>
        this.#text({ type: "content_block_delta", index, delta: { type: said.kind } }, said),
      ),
    ];
  }

  #delta(passed: Json, texts: readonly Said[]): Routed[] {
    if (!isRecord(passed.delta)) return [];
    const isText = Object.hasOwn(TEXT_FIELDS, text(passed.delta.type));
    return isText ? texts.flatMap((said) => this.#text(passed, said)) : [item(passed, false)];
  }

  /** A piece of a block's text, in an event like the one that it came in. */
  #text(event: Json, { text: said, channel, kind }: Said): Routed[] {
    const { index } = event;
    const key = JSON.stringify(event);
    const target = this.#targets.get(key) ?? {
      write: (released: string) => ({
        ...event,
        delta: { ...record(event.delta), [TEXT_FIELDS[kind]]: released },
      }),
    };
    this.#targets.set(key, target);
    this.#texts.set(index, target);
    return this.#formatter.text(channel, said, target, index).map((part) => ({ choice: 0, part }));
  }

  /** A block's text is at its end: half an escape of JSON stands for itself. */
  #endText(index: unknown): Routed[] {
    const target = this.#texts.get(index);
    return target ? this.#formatter.end(target, index).map((part) => ({ choice: 0, part })) : [];
  }
}

function item(event: Event, boundary: boolean, ends = false): Routed {
  return { choice: 0, part: { kind: "item", item: event, boundary, ends } };
}

function textBlock(index: number, said: string): Event[] {
  return [
    { type: "content_block_start", index, content_block: { type: "text", text: "", citations: null } },
    { type: "content_block_delta", index, delta: { type: "text_delta", text: said } },
    { type: "content_block_stop", index },
  ];
}

/** How a message ends that was stopped. The guard's own category stands beside it: the API's are others. */
function refused(violation: ModerationViolation): Json {
  const stop_details = { type: "refusal", category: null, explanation: violation.message };
  return { stop_reason: "refusal", stop_sequence: null, stop_details };
}

/** A block's text; nothing of other blocks, nor of a text that is empty, which no server takes back. */
function cut(own: Json): Json[] {
  if (own.text instanceof Slot && own.text.text !== "")
    return [{ type: "text", text: own.text, citations: null }];
  if (own.thinking instanceof Slot && own.thinking.text !== "")
    return [{ type: "thinking", thinking: own.thinking, signature: "" }];
  return [];
}

function blankMessage(model: unknown): Json {
  return {
    id: `msg_${crypto.randomUUID().replaceAll("-", "")}`,
    type: "message",
    role: "assistant",
    model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 0, output_tokens: 0 },
  };
}

/** The API's names of errors, by status. */
const ERRORS: Record<number, string> = {
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  503: "overloaded_error",
  504: "timeout_error",
  529: "overloaded_error",
};
const ERROR_TYPES = new Set([...Object.values(ERRORS), "invalid_request_error", "api_error"]);

function anthropicError({ status, body: { error } }: RequestError): Json {
  const { message, code, type: told, qwen3guard } = error;
  // A server's own word for it, else the status's.
  const own = ERRORS[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
  const type = ERROR_TYPES.has(told) && told !== "invalid_request_error" ? told : own;
  return {
    type: "error",
    error: { type, message, details: { error_code: code }, ...(qwen3guard && { qwen3guard }) },
  };
}
