import { conversation, Reply } from "../reply.js";
import { RequestError } from "./api-error.js";
import type { Answer, Dialect, Event, Place, Routed, WholeText } from "./dialect.js";
import { isRecord, type Json, list, record } from "./json.js";
import { chatMessages } from "./messages.js";

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
export const chat: Dialect = {
  ask(body, policy) {
    const prompt = conversation(chatMessages(body.messages, policy));
    return { choices: Array(countOf(body.n)).fill(prompt), stream: body.stream === true };
  },

  answer: (ask) => new ChatAnswer(ask.choices.map(({ lead }) => new Reply<Event | Place>(lead))),

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
    for (const [i, choice] of list(body.choices).filter(isRecord).entries()) {
      const violation = violations[Number(choice.index ?? i)];
      if (!violation) continue;
      choice.finish_reason = "content_filter";
      choice.moderation = violation.toJSON();
      choice.logprobs = null;
      for (const field of CALL_FIELDS) delete record(choice.message)[field];
    }
    body.moderation = violations.find((violation) => violation !== null)?.toJSON();
  },
};

class ChatAnswer implements Answer {
  readonly terminator = "[DONE]";
  readonly #replies: Reply<Event | Place>[];
  readonly #places = new Map<string, Place>();
  #base: Json = {};

  constructor(replies: Reply<Event | Place>[]) {
    this.#replies = replies;
  }

  read(event: Json): Routed[] {
    const { choices, usage, ...base } = event;
    this.#base = base;
    const routed: Routed[] = [];
    for (const value of list(choices)) {
      const { index, delta, finish_reason: finish, logprobs } = record(value);
      const choice = Number(index ?? 0);
      rejectUnknown(choice, this.#replies.length);
      const item = (fields: Json, boundary: boolean) => {
        const part = { delta: {}, finish_reason: null, ...fields, index: choice };
        routed.push({ choice, part: { kind: "item", item: { ...base, choices: [part] }, boundary } });
      };
      const { role, ...fields } = record(delta);
      if (role !== undefined && role !== null) item({ delta: { role, content: "" } }, false);
      for (const [field, channel] of TEXT_FIELDS) {
        const parts = this.#replies[choice].text(channel, asText(fields[field]), this.#place(choice, field));
        for (const part of parts) routed.push({ choice, part });
      }
      if (logprobs) item({ logprobs }, false);
      for (const field of CALL_FIELDS) if (fields[field]) item({ delta: { [field]: fields[field] } }, true);
      if (finish !== undefined && finish !== null) item({ finish_reason: finish }, true);
    }
    if (usage !== undefined && usage !== null) {
      routed.push({ choice: null, part: { kind: "item", item: { ...base, choices: [], usage } } });
    }
    return routed;
  }

  write(choice: number, text: string, { field }: Place): Event {
    return this.#event(choice, { [field]: text }, null);
  }

  stop(choice: number, violation: { toJSON(): object }): Event[] {
    return [{ ...this.#event(choice, {}, "content_filter"), moderation: violation.toJSON() }];
  }

  fail(error: object): Event {
    return { ...error };
  }

  name(): null {
    return null;
  }

  #event(index: number, delta: Json, finish_reason: string | null): Event {
    return {
      id: "chatcmpl-moderated",
      object: "chat.completion.chunk",
      ...this.#base,
      choices: [{ index, delta, finish_reason }],
    };
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

export function countOf(n: unknown): number {
  if (n === undefined || n === null) return 1;
  if (Number.isInteger(n) && Number(n) >= 1 && Number(n) <= 128) return Number(n);
  throw new RequestError(
    400,
    "invalid_n",
    `n is ${JSON.stringify(n)}; it must be a whole number from 1 to 128.`,
  );
}

/** More choices than asked for cannot be judged: nobody holds a place for them. */
export function rejectUnknown(choice: number, count: number): void {
  if (Number.isInteger(choice) && choice >= 0 && choice < count) return;
  throw new RequestError(
    502,
    "upstream_invalid",
    `The model answered with choice ${choice}, of ${count} asked for.`,
  );
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
