import { Reply } from "../reply.js";
import { RequestError } from "./api-error.js";
import { ChoicesAnswer, rejectUnknown, stopChoices } from "./choices.js";
import type { Answers, Event, Place, Routed, WholeText } from "./dialect.js";
import { isRecord, type Json, list, record } from "./json.js";

/** Fields of a message or delta that hold text for people. Servers name reasoning in two ways. */
const TEXT_FIELDS = [
  ["reasoning_content", "reasoning"],
  ["reasoning", "reasoning"],
  ["content", "content"],
  ["refusal", "content"],
] as const;
/** Fields that pass as they are. Others may hold text, and are left out. */
const CALL_FIELDS = ["tool_calls", "function_call"];

/** `/v1/chat/completions` */
export const chatAnswers: Answers = {
  answer: (ask) => new ChatAnswer(ask.choices.map(({ lead }) => new Reply<Event | Place>(lead))),

  list: "choices",

  whole(body, ask) {
    return list(body.choices).flatMap((value, i): WholeText[] => {
      const { index, message: own } = record(value);
      const choice = Number(index ?? i);
      const message = record(own);
      rejectUnknown(choice, ask.choices.length);
      for (const field of Object.keys(message)) if (!isKnown(field)) delete message[field];
      return TEXT_FIELDS.flatMap(([field, channel]): WholeText[] => {
        const text = asText(message[field]);
        if (text === "") return [];
        const set = (passed: string) => {
          message[field] = passed;
        };
        return [{ choice, channel, text, set }];
      });
    });
  },

  stopWhole(body, violations) {
    stopChoices(body, violations, ({ message }) => {
      for (const field of CALL_FIELDS) delete record(message)[field];
    });
  },
};

class ChatAnswer extends ChoicesAnswer {
  readonly #places = new Map<string, Place>();

  constructor(replies: Reply<Event | Place>[]) {
    super(replies, {
      event: { id: "chatcmpl-moderated", object: "chat.completion.chunk" },
      choice: { delta: {} },
    });
  }

  write(choice: number, text: string, { field }: Place): Event {
    return this.event(choice, { delta: { [field]: text } });
  }

  protected readChoice(
    { delta, finish_reason, logprobs }: Json,
    choice: number,
    reply: Reply<Event | Place>,
    item: (fields: Json, boundary: boolean) => Routed,
  ): Routed[] {
    const routed: Routed[] = [];
    const { role, ...fields } = record(delta);
    if (role !== undefined && role !== null) routed.push(item({ delta: { role, content: "" } }, false));
    for (const [field, channel] of TEXT_FIELDS) {
      const parts = reply.text(channel, asText(fields[field]), this.#place(choice, field));
      routed.push(...parts.map((part) => ({ choice, part })));
    }
    if (logprobs) routed.push(item({ logprobs }, false));
    for (const field of CALL_FIELDS) {
      if (fields[field]) routed.push(item({ delta: { [field]: fields[field] } }, true));
    }
    if (finish_reason !== undefined && finish_reason !== null) routed.push(item({ finish_reason }, true));
    return routed;
  }

  /** One object for each choice and field: text in the same place is joined. */
  #place(choice: number, field: string): Place {
    const key = `${choice} ${field}`;
    let place = this.#places.get(key);
    if (!place) {
      place = { field, base: {} };
      this.#places.set(key, place);
    }
    return place;
  }
}

/** A field's text; parts of text too, as some servers send them. @throws {RequestError} where it holds anything else */
function asText(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((part) => isRecord(part) && typeof part.text === "string")) {
    return value.map((part) => part.text).join("");
  }
  throw new RequestError(
    502,
    "upstream_invalid",
    "The model's answer holds content that the guard cannot read.",
  );
}

function isKnown(field: string): boolean {
  const texts = TEXT_FIELDS.map(([name]) => name as string);
  return field === "role" || texts.includes(field) || CALL_FIELDS.includes(field);
}
