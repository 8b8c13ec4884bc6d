import { isRecord, type Json, record } from "../../validation/json.js";
import { Slot } from "../answer/allow-list.js";
import type { ResponseCodec } from "../answer/codec.js";
import { EVENT_STREAM } from "../answer/media.js";
import { ChoicesAnswer, type ChoicesForm } from "./choices.js";
import { chatChoiceFields, chatDeltaFields } from "./choices-fields.js";
import { annotateChoices, blankChoices, wholeChoices } from "./whole-choices.js";

const form: ChoicesForm = {
  event: { id: "chatcmpl-moderated", object: "chat.completion.chunk" },
  choice: { delta: {} },
  fields: chatDeltaFields,
  write: (kind, text) => ({
    delta: kind === "thinking" ? { content: [thought(text)] } : fields(kind, text),
  }),
};

/** Of `/v1/chat/completions`. */
export const chatCodec: ResponseCodec = {
  media: EVENT_STREAM,
  refuses: false,
  error: ({ body }) => ({ ...body }),
  stream: (options, formatters) => new ChoicesAnswer(options, formatters, form),
  whole: (body, options) =>
    wholeChoices(body, options, chatChoiceFields, ({ message }, replacement) => ({
      message: replacement === null ? texts(record(message)) : { role: "assistant", content: replacement },
    })),
  annotate: annotateChoices,
  blank: (options) => ({
    id: form.event.id,
    ...blankChoices(options, "chat.completion", { message: { role: "assistant", content: "" } }),
  }),
};

/** A text in each of the fields that a kind names. */
function fields(kind: string, text: string): Json {
  return Object.fromEntries(kind.split(" ").map((name) => [name, text]));
}

/** Reasoning in a list of parts, as Mistral has it. */
function thought(text: string): Json {
  return { type: "thinking", thinking: [{ type: "text", text }] };
}

/** A message's texts, without calls and all else that it holds. */
function texts(message: Json): Json {
  const kept = Object.entries(message).flatMap(([name, value]): [string, unknown][] => {
    if (name === "role" || value instanceof Slot) return [[name, value]];
    if (name !== "content" || !Array.isArray(value)) return [];
    return [[name, value.filter(isRecord).filter(holdsText)]];
  });
  return Object.fromEntries(kept);
}

function holdsText({ text, refusal, thinking }: Json): boolean {
  return [text, refusal, thinking].some((own) => own instanceof Slot || Array.isArray(own));
}
