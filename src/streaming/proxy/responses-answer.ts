import { Reply } from "../reply.js";
import { type ApiError, RequestError } from "./api-error.js";
import type { Answer, Answers, Event, Place, Routed, WholeText } from "./dialect.js";
import { isRecord, type Json, list, record, text } from "./json.js";

const TEXT_DELTAS: Record<string, "reasoning" | "content"> = {
  "response.output_text.delta": "content",
  "response.refusal.delta": "content",
  "response.reasoning_text.delta": "reasoning",
  "response.reasoning_summary_text.delta": "reasoning",
};
/** What an answer says in a way that cannot be judged, or in one that is not known; calls pass as they are. */
const UNREADABLE = /audio|^(?!.*_call).*\.delta$/;

/** `/v1/responses` */
export const responsesAnswers: Answers = {
  answer: (ask) => new ResponsesAnswer(new Reply<Event | Place>(ask.choices[0].lead)),

  list: "output",

  whole(body) {
    delete body.output_text;
    return list(body.output).flatMap((item): WholeText[] => {
      const fields = record(item);
      const channel = fields.type === "reasoning" ? "reasoning" : "content";
      return partsOf(fields).flatMap((part): WholeText[] =>
        ["text", "refusal"].flatMap((field): WholeText[] => {
          const set = (passed: string) => {
            part[field] = passed;
          };
          return typeof part[field] === "string" ? [{ choice: 0, channel, text: part[field], set }] : [];
        }),
      );
    });
  },

  stopWhole(body, [violation]) {
    if (!violation) return;
    body.status = "incomplete";
    body.incomplete_details = { reason: "content_filter" };
    body.qwen3guard = violation.toJSON();
    body.output = list(body.output).filter((item) =>
      ["message", "reasoning"].includes(text(record(item).type)),
    );
    for (const item of list(body.output)) {
      const fields = record(item);
      if ("status" in fields) fields.status = "incomplete";
      for (const part of list(fields.content).filter(isRecord)) if ("logprobs" in part) part.logprobs = [];
    }
  },
};

class ResponsesAnswer implements Answer {
  readonly terminator = null;
  readonly #reply: Reply<Event | Place>;
  readonly #places = new Map<string, Place>();
  /** Text that came in deltas, by place. */
  readonly #came = new Map<Place, string>();
  /** Text that went out, by item. */
  readonly #messages = new Map<string, { id: string; text: string }>();
  #response: Json = {};
  #sequence = 0;

  constructor(reply: Reply<Event | Place>) {
    this.#reply = reply;
  }

  read(event: Json): Routed[] {
    const type = text(event.type);
    if (isRecord(event.response)) this.#response = { ...event.response, output: [] };
    const channel = TEXT_DELTAS[type];
    if (channel) {
      const { delta, sequence_number: _, logprobs: __, ...base } = event;
      const key = `${type} ${text(base.item_id)} ${base.output_index} ${base.content_index ?? base.summary_index}`;
      const place = this.#places.get(key) ?? { field: type, base };
      this.#places.set(key, place);
      this.#came.set(place, (this.#came.get(place) ?? "") + text(delta));
      return this.#reply.text(channel, text(delta), place).map((part) => ({ choice: 0, part }));
    }
    if (UNREADABLE.test(type)) return [];
    if (!textsOf(event).every((said) => this.#hasCome(said))) {
      const message = "The model's answer holds text that came in no delta, so that it was not judged.";
      throw new RequestError(502, "upstream_invalid", message);
    }
    const boundary = !/^response\.(created|in_progress|queued)$|\.added$/.test(type);
    return [{ choice: 0, part: { kind: "item", item: event, boundary } }];
  }

  write(_choice: number, released: string, { field, base }: Place): Event {
    if (TEXT_DELTAS[field] === "content") {
      const id = text(base.item_id);
      const message = this.#messages.get(id) ?? { id, text: "" };
      message.text += released;
      this.#messages.set(id, message);
    }
    return { ...base, delta: released, ...(field === "response.output_text.delta" && { logprobs: [] }) };
  }

  stop(_choice: number, violation: { toJSON(): object }): Event[] {
    const output = [...this.#messages.values()].map(({ id, text: said }) => ({
      id,
      type: "message",
      role: "assistant",
      status: "incomplete",
      content: [{ type: "output_text", text: said, annotations: [] }],
    }));
    const response = {
      object: "response",
      ...this.#response,
      status: "incomplete",
      incomplete_details: { reason: "content_filter" },
      output,
      qwen3guard: violation.toJSON(),
    };
    return [{ type: "response.incomplete", response }];
  }

  fail({ error }: ApiError): Event {
    return { type: "error", code: error.code, message: error.message, param: error.param };
  }

  /** Servers may leave out white space where they say it over again. */
  #hasCome(said: string): boolean {
    return said === "" || [...this.#came.values()].some((text) => text.includes(said));
  }

  /** Events are numbered as they go out: some were joined, some are new. */
  name(event: Event): string {
    event.sequence_number = this.#sequence++;
    return text(event.type);
  }
}

/** What an event says over again of an answer: in itself, in a part, an item or the whole answer. */
function textsOf({ text: own, refusal, part, item, response }: Json): string[] {
  const parts = [item, ...list(record(response).output)].map(record).flatMap(partsOf);
  return [{ text: own, refusal }, record(part), ...parts].flatMap((fields) => [
    text(fields.text),
    text(fields.refusal),
  ]);
}

function partsOf({ summary, content }: Json): Json[] {
  return [...list(summary), ...list(content)].filter(isRecord);
}
