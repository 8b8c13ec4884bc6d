import type { ResponseCodec } from "../answer/codec.js";
import { EVENT_STREAM } from "../answer/media.js";
import { ChoicesAnswer, type ChoicesForm } from "./choices.js";
import { completionChoiceFields } from "./choices-fields.js";
import { annotateChoices, blankChoices, wholeChoices } from "./whole-choices.js";

const form: ChoicesForm = {
  event: { id: "cmpl-moderated", object: "text_completion" },
  choice: { text: "", logprobs: null },
  fields: completionChoiceFields,
  write: (_kind, text) => ({ text }),
};

/** Of `/v1/completions`. */
export const completionsCodec: ResponseCodec = {
  media: EVENT_STREAM,
  refuses: false,
  error: ({ body }) => ({ ...body }),
  stream: (options, formatters) => new ChoicesAnswer(options, formatters, form),
  whole: (body, options) =>
    wholeChoices(body, options, completionChoiceFields, ({ text }, replacement) => ({
      text: replacement ?? text,
    })),
  annotate: annotateChoices,
  blank: (options) => ({ id: form.event.id, ...blankChoices(options, "text_completion", { text: "" }) }),
};
