import { isRecord } from "../../validation/json.js";
import {
  called,
  calledName,
  categories,
  echo,
  either,
  type Fields,
  figures,
  isScalar,
  label,
  level,
  list,
  object,
  opaque,
  optionalList,
  repeated,
  role,
  type Shape,
  text,
  typed,
  url,
  word,
} from "../answer/allow-list.js";
import { logprobs } from "../answer/logprobs.js";
import { type Passing, passing, passingOf } from "../answer/passing.js";

const usage = figures("type", "modality", "service_tier");
/** What Azure's filters say of a text. */
const filters = figures("severity", "code", "license", "URL", "id", "source_type");
const reason = either(word, label);

const moderationResult = object({
  type: word,
  model: label,
  code: word,
  categories,
  category_scores: categories,
  category_applied_input_types: categories,
});
const moderationSide = object({
  type: word,
  model: label,
  code: word,
  results: optionalList(moderationResult),
  categories,
  category_scores: categories,
  category_applied_input_types: categories,
});

/** OpenAI's own moderation of a request and its answer. */
export const moderation = object({ input: moderationSide, output: moderationSide });
export const model: Shape = either(repeated("model"), word, label);
export const contentFilters = filters;
export const usageFigures = usage;

/** Of chat completions and completions, in whole and in events; `choices` are read apart. */
export const bodyFields: Fields = {
  id: word,
  object: word,
  model,
  system_fingerprint: word,
  service_tier: word,
  usage,
  moderation,
  metadata: repeated("metadata"),
  // Azure
  prompt_filter_results: filters,
  prompt_annotations: filters,
  // OpenRouter, Perplexity
  provider: label,
  citations: optionalList(url),
  search_results: optionalList(object({ url, date: word, last_updated: word, source: word })),
  // llama.cpp
  timings: figures(),
  prompt_progress: figures(),
  // Groq, Cerebras, Fireworks
  x_groq: object({ id: word, usage, usage_breakdown: usage }),
  usage_breakdown: usage,
  time_info: figures(),
  perf_metrics: figures(),
  metrics: figures(),
};

/** Of a choice beside its text. */
const choiceFields: Fields = {
  finish_reason: word,
  native_finish_reason: reason,
  stop_reason: reason,
  matched_stop: reason,
  content_filter_results: filters,
  content_filter_result: filters,
  content_filter_offsets: filters,
  logprobs,
};

const calledFunction = object({ name: calledName, arguments: called("arguments") });
const callFields = object({
  id: word,
  type: word,
  function: calledFunction,
  custom: object({ name: calledName, input: called("input", false) }),
  extra_content: object({ google: object({ thought_signature: opaque }) }),
});
/** Pieces of several calls may come in turns. */
const toolCall = passing(passingOf(callFields) as Passing, (value, reader) => {
  reader.place = `call ${isRecord(value) ? value.index : ""}`;
  return callFields(value, reader);
});
const citation = object({ url, type: word });
const annotation = object({ type: word, url_citation: citation });

const thought = passing("judged, or a list of texts, each of which is", (value, reader) =>
  typeof value === "string" ? text("reasoning", "thinking")(value, reader) : thoughts(value, reader),
);
const thoughts = list(typed({ text: { text: text("reasoning", "thinking") } }, "text"));
const contentPart = typed(
  {
    thinking: { thinking: thought, signature: opaque },
    text: { text: text("content", "content") },
    output_text: { text: text("content", "content") },
    refusal: { refusal: text("content", "refusal") },
    reference: {
      reference_ids: optionalList(passing("numbers", (value) => (isScalar(value) ? value : undefined))),
    },
  },
  "text",
);
const said = text("content", "content");
const saidInParts = list(contentPart);
const content = passing({ either: [said, saidInParts] }, (value, reader) =>
  Array.isArray(value) ? saidInParts(value, reader) : said(value, reader),
);

const reasoningDetails = optionalList(
  typed({
    "reasoning.text": { text: echo, signature: opaque, id: word, format: word },
    "reasoning.summary": { summary: echo, id: word, format: word },
    "reasoning.encrypted": { data: opaque, id: word, format: word },
  }),
);

/** Of a chat completion's message, and of a delta of it. Servers name reasoning in two ways. */
const messageFields: Fields = {
  role,
  reasoning_content: text("reasoning", "reasoning_content"),
  reasoning: text("reasoning", "reasoning"),
  content,
  refusal: text("content", "refusal"),
  tool_calls: optionalList(toolCall),
  function_call: calledFunction,
  annotations: optionalList(annotation),
  reasoning_details: reasoningDetails,
};

/** Of a whole choice of a chat completion. */
export const chatChoiceFields: Fields = { message: level(messageFields), ...choiceFields };
/** Of a choice of a completion, whole or in an event. */
export const completionChoiceFields: Fields = { text: text("content", "text"), ...choiceFields };
/** Of a choice in a chat completion's event. */
export const chatDeltaFields: Fields = { delta: level(messageFields), ...choiceFields };
