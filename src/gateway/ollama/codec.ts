import type { AnswerFormatter } from "../../gate/answer-formatter.js";
import type { ModerationViolation } from "../../gate/violation.js";
import { type Json, record } from "../../validation/json.js";
import { type Fields, invalid, level, type Shape, Slot } from "../answer/allow-list.js";
import type { CodecOptions, Event, ResponseCodec, Routed, StreamCodec, TextTarget } from "../answer/codec.js";
import { JSON_LINES } from "../answer/media.js";
import { EventReader, judgeCalls, type Said } from "../answer/readers.js";
import { wholeAnswer } from "../answer/whole-answer.js";
import type { RequestError } from "../api-error.js";
import { chatLineFields, generateLineFields } from "./fields.js";

/** What differs between the two endpoints. */
interface Form {
  fields: Fields;
  /** The fields of a line that bring a text. */
  write(kind: string, said: string): Json;
}

/** Of Ollama's `/api/chat`. */
export const ollamaChatCodec = codecOf({
  fields: chatLineFields,
  write: (kind, said) => ({
    message: { role: "assistant", content: "", [kind]: said },
  }),
});

/** Of Ollama's `/api/generate`. */
export const ollamaGenerateCodec = codecOf({
  fields: generateLineFields,
  write: (kind, said) => ({ response: "", [kind === "content" ? "response" : kind]: said }),
});

function codecOf(form: Form): ResponseCodec {
  const line = level(form.fields);
  return {
    media: JSON_LINES,
    refuses: false,
    error: ({ body: { error } }) => ollamaError(error),
    stream: (options, [formatter]) => new LinesAnswer(options, formatter, form, line),

    whole(body, options) {
      if (body.message === undefined && body.response === undefined) throw invalid("no text");
      return wholeAnswer(body, options, line, (passed, replacement, violation) => {
        const { message, thinking, response, tool_calls: _, logprobs: __, ...rest } = passed;
        const texts =
          replacement !== null
            ? form.write("content", replacement)
            : message === undefined
              ? slots({ thinking, response })
              : { message: { role: "assistant", content: "", ...slots(record(message)) } };
        return { ...rest, ...texts, ...stopped(violation) };
      });
    },

    annotate: (body) => body,
    blank: ({ request }) => ({ ...head(request), ...form.write("content", ""), done: true }),
  };
}

/** An answer as lines that each bring some of it. */
class LinesAnswer implements StreamCodec {
  readonly terminator = null;
  readonly #options: CodecOptions;
  readonly #formatter: AnswerFormatter<Event | TextTarget | Slot>;
  readonly #form: Form;
  readonly #line: Shape;
  /** Where text went last: text in lines that differ in nothing else is joined. */
  #last: { key: string; kind: string; target: TextTarget } | null = null;
  /** The first line's fields, for lines of the proxy's own. */
  #head: Json;
  #ended = false;

  constructor(
    options: CodecOptions,
    formatter: AnswerFormatter<Event | TextTarget | Slot>,
    form: Form,
    line: Shape,
  ) {
    this.#options = options;
    this.#formatter = formatter;
    this.#form = form;
    this.#line = line;
    this.#head = head(options.request);
  }

  read(event: Json): Routed[] {
    const reader = new EventReader(this.#options);
    const { message, response: _, ...own } = this.#line(event, reader) as Json;
    const { content: __, role: ___, ...told } = record(message);
    const { model, created_at, done, ...rest } = own;
    this.#ended ||= done === true;
    const routed = reader.texts.flatMap((said) => this.#text({ model, created_at, done: false }, said));
    for (const part of judgeCalls(reader.calls, this.#formatter)) routed.push({ choice: 0, part });
    if (done === true) routed.push(...this.#endTexts());
    const more = Object.keys(told).length > 0;
    if (done !== true && !more && Object.keys(rest).length === 0) return routed;
    // What tells of a text, or of the end, comes after it.
    const texts = record(this.#form.write("content", "").message);
    const carrier =
      message === undefined ? this.#form.write("content", "") : { message: { ...texts, ...told } };
    const item = { model, created_at, ...carrier, done: done === true, ...rest };
    const ends = done === true;
    return [...routed, { choice: 0, part: { kind: "item", item, boundary: ends || more, ends } }];
  }

  ended(): boolean {
    return this.#ended;
  }

  stop(_choice: number, violation: ModerationViolation): Event[] {
    const said = this.#options.replacement(violation) ?? "";
    return [
      ...(said === "" ? [] : [{ ...this.#own(), ...this.#form.write("content", said), done: false }]),
      { ...this.#own(), ...this.#form.write("content", ""), ...stopped(violation) },
    ];
  }

  fail({ body }: RequestError): Event {
    return ollamaError(body.error);
  }

  keepAlive(): string {
    return this.frame({ ...this.#own(), ...this.#form.write("content", ""), done: false });
  }

  frame(event: Event): string {
    return `${JSON.stringify(event)}\n`;
  }

  #own(): Json {
    return { ...this.#head, created_at: new Date().toISOString() };
  }

  #text(line: Json, { text: said, channel, kind }: Said): Routed[] {
    const key = JSON.stringify([kind, line.model]);
    if (this.#last?.key !== key) {
      const target = { write: (released: string) => ({ ...line, ...this.#form.write(kind, released) }) };
      this.#last = { key, kind, target };
    }
    return this.#formatter.text(channel, said, this.#last.target, kind).map((part) => ({ choice: 0, part }));
  }

  /** The text is at its end: half an escape of JSON stands for itself. */
  #endTexts(): Routed[] {
    const last = this.#last;
    return last ? this.#formatter.end(last.target, last.kind).map((part) => ({ choice: 0, part })) : [];
  }
}

function slots(fields: Json): Json {
  return Object.fromEntries(Object.entries(fields).filter(([, own]) => own instanceof Slot));
}

/** How a line says that the answer was stopped: the protocol has no word of its own for it. */
function stopped(violation: ModerationViolation): Json {
  return { done: true, done_reason: "content_filter", qwen3guard: violation.toJSON() };
}

function head({ model }: Json): Json {
  return { model, created_at: new Date().toISOString() };
}

function ollamaError({ message, code, qwen3guard }: RequestError["body"]["error"]): Json {
  return { error: message, code, ...(qwen3guard && { qwen3guard }) };
}
