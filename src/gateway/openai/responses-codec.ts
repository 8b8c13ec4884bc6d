import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { ModerationViolation } from "../../gate/violation.js";
import { isRecord, type Json, list, record, text } from "../../validation/json.js";
import { type Channel, invalid, level, type Reader, Slot } from "../answer/allow-list.js";
import type {
  CodecOptions,
  Event,
  Released,
  ResponseCodec,
  Routed,
  StreamCodec,
  TextTarget,
} from "../answer/codec.js";
import { EVENT_STREAM } from "../answer/media.js";
import { type Call, Echoes, EventReader, judgeCalls } from "../answer/readers.js";
import { wholeAnswer } from "../answer/whole-answer.js";
import type { RequestError } from "../api-error.js";
import { responseModeration } from "./annotations.js";
import { OpenItems } from "./open-items.js";
import { deltaFields, eventFields, responseFields } from "./responses-fields.js";

const TEXT_DELTAS: Record<string, Channel> = {
  "response.output_text.delta": "content",
  "response.refusal.delta": "content",
  "response.reasoning_text.delta": "reasoning",
  "response.reasoning_summary_text.delta": "reasoning",
};
const delta = level({ ...deltaFields, type: (value) => value });
const events = new Map(
  Object.entries(eventFields).map(([type, fields]) => [type, level({ type: (value) => value, ...fields })]),
);
const wholeResponse = level(responseFields);
const CALL_DELTA = /^response\.(\w+_arguments|custom_tool_call_input|code_interpreter_call_code)\.delta$/;
const ENDS = ["response.completed", "response.incomplete"];
/** Events that need no text before them to be complete. */
const EARLY = /^response\.(created|in_progress|queued)$|^keepalive$|\.added$/;

/** Of `/v1/responses`. */
export const responsesCodec: ResponseCodec = {
  media: EVENT_STREAM,
  refuses: false,
  error: ({ body }) => ({ ...body }),
  stream: (options, [formatter]) => new ResponsesAnswer(options, formatter),

  whole(body, options) {
    if (!Array.isArray(body.output)) throw invalid("no output");
    return wholeAnswer(body, options, wholeResponse, (passed, replacement, violation) => {
      const output =
        replacement === null ? list(passed.output).map(record).flatMap(cut) : [writtenMessage(replacement)];
      return stopped(passed, output, violation);
    });
  },

  annotate: (body, annotations) =>
    annotations.style === "openai" ? { ...body, moderation: responseModeration(annotations) } : body,
  blank: ({ request }) => blankResponse(request),
};

class ResponsesAnswer implements StreamCodec {
  readonly terminator = null;
  readonly #options: CodecOptions;
  readonly #formatter: AnswerFormatter<Event | TextTarget | Slot>;
  readonly #targets = new Map<string, TextTarget>();
  /** Text that came in deltas, by place. */
  readonly #came = new Map<TextTarget, string>();
  /** Texts of calls that went to the guard, by place. */
  readonly #called = new Map<string, string>();
  readonly #sent = new OpenItems();
  #response: Json = {};
  #ended = false;
  #sequence = 0;

  constructor(options: CodecOptions, formatter: AnswerFormatter<Event | TextTarget | Slot>) {
    this.#options = options;
    this.#formatter = formatter;
  }

  read(event: Json): Routed[] {
    const type = text(event.type);
    const channel = Object.hasOwn(TEXT_DELTAS, type) ? TEXT_DELTAS[type] : undefined;
    if (channel) return this.#readText(event, channel);
    const reader = new EchoReader(this.#options, this.#came.values());
    reader.place = `item ${event.output_index} ${event.item_id}`;
    const passed = events.get(type)?.(event, reader) as Json | undefined;
    if (!events.has(type)) this.#options.open.leave(type);
    // Of what no table knows nothing passes, nor an event about it.
    if (
      !passed ||
      ["item", "part", "annotation", "response"].some((name) => name in event && !passed[name])
    ) {
      return [];
    }
    if (isRecord(passed.response)) this.#response = { ...passed.response, output: [] };
    const ends = ENDS.includes(type);
    this.#ended ||= ends;
    const isCall = CALL_DELTA.test(type) && this.#options.tools === "judge";
    const boundary = !EARLY.test(type) && !isCall;
    const parts = [...this.#judgeCalls(reader.calls, isCall), ...(this.#ended ? this.#endTexts() : [])];
    const last = { kind: "item" as const, item: passed, boundary, ends };
    return [...parts, last].map((part) => ({ choice: 0, part }));
  }

  /** A call is said over again, and judged once. */
  #judgeCalls(calls: readonly Call[], isDelta: boolean): Released[] {
    const fresh = isDelta ? calls : calls.filter(({ text: said }) => !this.#isJudged(said));
    for (const { text: said, key } of fresh) {
      this.#called.set(isDelta ? key : said, isDelta ? (this.#called.get(key) ?? "") + said : said);
    }
    const apart = isDelta ? fresh : fresh.map((call) => ({ ...call, key: `${call.key} ${call.text}` }));
    return judgeCalls(apart, this.#formatter);
  }

  #isJudged(said: string): boolean {
    return [...this.#called.values()].includes(said);
  }

  ended(): boolean {
    return this.#ended;
  }

  stop(_choice: number, violation: ModerationViolation): Event[] {
    const replacement = this.#options.replacement(violation);
    const opening: Event[] = [];
    if (this.#sequence === 0) {
      this.#response = blankResponse(this.#options.request);
      opening.push({ type: "response.created", response: { ...this.#response, status: "in_progress" } });
    }
    const closing = this.#sent.close();
    const written = replacement === null ? null : writtenMessage(replacement);
    const output = [...this.#sent.output, ...(written ? [written] : [])];
    const response = { object: "response", ...this.#response, ...stopped({}, output, violation) };
    return [
      ...opening,
      ...closing,
      ...(written ? messageEvents(written, this.#sent.next) : []),
      { type: "response.incomplete", response },
    ];
  }

  keepAlive(): string {
    return ": keep-alive\n\n";
  }

  fail({ body: { error } }: RequestError): Event {
    return { type: "error", code: error.code, message: error.message, param: error.param };
  }

  /** Events are numbered as they go out: some were joined, some are new. */
  frame(event: Event): string {
    this.#sent.take(event);
    const told = this.#annotated(event);
    const numbered = { ...told, sequence_number: this.#sequence++ };
    return `event: ${event.type}\ndata: ${JSON.stringify(numbered)}\n\n`;
  }

  /** The last event tells what the guard says of prompt and answer. */
  #annotated(event: Event): Event {
    const { annotations } = this.#options;
    const isLast = [...ENDS, "response.incomplete"].includes(text(event.type));
    if (annotations?.style !== "openai" || !isLast) return event;
    return { ...event, response: { ...record(event.response), moderation: responseModeration(annotations) } };
  }

  /** The texts are at their end: half an escape of JSON stands for itself. */
  #endTexts(): Released[] {
    return [...this.#targets.values()].flatMap((target) => this.#formatter.end(target, target));
  }

  #readText(event: Json, channel: Channel): Routed[] {
    const { delta: said, ...rest } = event;
    if (typeof said !== "string") throw invalid("content that the guard cannot read");
    const { sequence_number: _, ...envelope } = delta(rest, new EventReader(this.#options)) as Json;
    const key = JSON.stringify(envelope);
    const logprobs = event.type === "response.output_text.delta" ? { logprobs: [] } : {};
    const target = this.#targets.get(key) ?? {
      write: (released: string) => ({ ...envelope, delta: released, ...logprobs }),
    };
    this.#targets.set(key, target);
    this.#came.set(target, (this.#came.get(target) ?? "") + said);
    return this.#formatter.text(channel, said, target, target).map((part) => ({ choice: 0, part }));
  }
}

/** Reads an event that says text over again: it must have come in deltas, to be judged. */
class EchoReader extends EventReader implements Reader {
  readonly #came: Echoes;

  constructor(options: CodecOptions, came: Iterable<string>) {
    super(options);
    this.#came = new Echoes([...came]);
  }

  /** Servers may leave out white space where they say it over again. */
  override text(said: string): never {
    if (!this.#came.has(said)) {
      throw invalid("text that came in no delta, so that it was not judged");
    }
    this.content += said;
    return said as never;
  }
}

/** The fields of an answer that was stopped. */
function stopped(response: Json, output: Json[], violation: ModerationViolation): Json {
  return {
    ...response,
    status: "incomplete",
    incomplete_details: { reason: "content_filter" },
    output,
    qwen3guard: violation.toJSON(),
  };
}

/** A response in which nothing was said. */
function blankResponse({ model }: Json): Json {
  const id = `resp_${crypto.randomUUID().replaceAll("-", "")}`;
  return { id, object: "response", created_at: Math.floor(Date.now() / 1000), model, output: [] };
}

/** A message of the proxy's own. */
function writtenMessage(said: string): Json {
  return {
    id: `msg_${crypto.randomUUID().replaceAll("-", "")}`,
    type: "message",
    role: "assistant",
    status: "completed",
    content: [{ type: "output_text", text: said, annotations: [], logprobs: [] }],
  };
}

/** The events that bring a message. */
function messageEvents(message: Json, output_index: number): Event[] {
  const [part] = list(message.content).map(record);
  const at = { item_id: message.id, output_index, content_index: 0 };
  const empty = { ...message, status: "in_progress", content: [] };
  return [
    { type: "response.output_item.added", output_index, item: empty },
    { type: "response.content_part.added", ...at, part: { ...part, text: "" } },
    { type: "response.output_text.delta", ...at, delta: part.text, logprobs: [] },
    { type: "response.output_text.done", ...at, text: part.text, logprobs: [] },
    { type: "response.content_part.done", ...at, part },
    { type: "response.output_item.done", output_index, item: message },
  ];
}

/** A message's or a reasoning's texts; nothing of other items. */
function cut({ id, type, role, summary, content }: Json): Json[] {
  if (type !== "message" && type !== "reasoning") return [];
  const parts = (own: unknown) => list(own).map(record).map(bare);
  const base = { id, type, status: "incomplete", ...(role !== undefined && { role }) };
  return [
    {
      ...base,
      ...(summary !== undefined && { summary: parts(summary) }),
      ...(content !== undefined && { content: parts(content) }),
    },
  ];
}

function bare(part: Json): Json {
  const texts = Object.entries(part).filter(([name, own]) => name === "type" || own instanceof Slot);
  return {
    ...Object.fromEntries(texts),
    ...(part.type === "output_text" && { annotations: [], logprobs: [] }),
  };
}
