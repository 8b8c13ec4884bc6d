import { ChoicesAnswer, type ChoicesForm, wholeChoices } from "./choices.js";
import { completionChoiceFields } from "./choices-fields.js";
import type { ResponseCodec } from "./codec.js";

const form: ChoicesForm = {
  event: { id: "cmpl-moderated", object: "text_completion" },
  choice: { text: "", logprobs: null },
  fields: completionChoiceFields,
  write: (_kind, text) => ({ text }),
};

/** Of `/v1/completions`. */
export const completionsCodec: ResponseCodec = {
  stream: (options, formatters) => new ChoicesAnswer(options, formatters, form),
  whole: (body, options) => wholeChoices(body, options, completionChoiceFields, ({ text }) => ({ text })),
};
