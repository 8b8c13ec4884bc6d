import { ChoicesAnswer, type ChoicesForm, wholeChoices } from "./choices.js";
import { completionChoiceFields } from "./choices-fields.js";
import type { Answers } from "./dialect.js";

const form: ChoicesForm = {
  event: { id: "cmpl-moderated", object: "text_completion" },
  choice: { text: "", logprobs: null },
  fields: completionChoiceFields,
  write: (_kind, text) => ({ text }),
};

/** Of `/v1/completions`. */
export const completionsAnswers: Answers = {
  stream: (options, replies) => new ChoicesAnswer(options, replies, form),
  whole: (body, options) => wholeChoices(body, options, completionChoiceFields, ({ text }) => ({ text })),
};
