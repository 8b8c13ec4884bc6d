import {
  called,
  calledName,
  either,
  type Fields,
  label,
  level,
  list,
  object,
  opaque,
  optionalList,
  repeated,
  role,
  text,
  typed,
  url,
  word,
} from "../answer/allow-list.js";
import { tokenList } from "../answer/logprobs.js";
import { contentFilters, model, moderation, usageFigures } from "./choices-fields.js";

const annotation = typed({
  url_citation: { url },
  file_citation: { file_id: word },
  container_file_citation: { file_id: word, container_id: word },
  file_path: { file_id: word },
});

/** A part of a message, or of a model's reasoning. */
export const part = typed(
  {
    output_text: {
      text: text("content", "output_text"),
      annotations: list(annotation),
      logprobs: tokenList,
    },
    refusal: { refusal: text("content", "refusal") },
    reasoning_text: { text: text("reasoning", "reasoning_text") },
    summary_text: { text: text("reasoning", "summary_text") },
  },
  undefined,
  // Parts and items are numbered: one that is left out would move those that follow.
  {},
);

const call = { id: word, status: word, call_id: word, created_by: word };
const named = { ...call, name: calledName, server_label: label, namespace: word };
const source = object({ type: word, url });

/** What an answer consists of. What a tool is called with passes as it is; what it gave is left out. */
export const outputItem = typed(
  {
    message: { id: word, status: word, role, phase: word, content: list(part) },
    reasoning: {
      id: word,
      status: word,
      summary: list(part),
      content: list(part),
      encrypted_content: opaque,
    },
    compaction: { id: word, encrypted_content: opaque },
    function_call: { ...named, arguments: called("arguments") },
    custom_tool_call: { ...named, input: called("input", false) },
    mcp_call: { ...named, arguments: called("arguments"), approval_request_id: word },
    mcp_approval_request: { ...named, arguments: called("arguments") },
    mcp_list_tools: { ...named, name: word },
    web_search_call: {
      ...call,
      action: either(
        object({
          type: word,
          sources: optionalList(source),
          query: called("query", false),
          queries: called("queries"),
          url,
          pattern: called("pattern", false),
        }),
      ),
    },
    file_search_call: { ...call, queries: called("queries") },
    computer_call: {
      ...call,
      action: called("action"),
      actions: called("actions"),
      pending_safety_checks: optionalList(object({ id: word, code: word })),
    },
    code_interpreter_call: { ...call, container_id: word, code: called("code", false) },
    image_generation_call: { ...call, size: word, quality: word, background: word, output_format: word },
    local_shell_call: { ...call, action: called("action") },
    shell_call: { ...call, action: called("action") },
    apply_patch_call: { ...call, operation: called("operation") },
    tool_search_call: { ...call, arguments: called("arguments"), execution: word },
  },
  "message",
  { id: word, status: word },
);

/** A whole answer. Much of it says again what was asked. */
export const responseFields: Fields = {
  id: word,
  object: word,
  status: word,
  model,
  error: object({ code: word, type: word }),
  incomplete_details: object({ reason: word }),
  output: list(outputItem),
  usage: usageFigures,
  service_tier: word,
  moderation,
  content_filters: contentFilters,
  previous_response_id: word,
  conversation: either(repeated("conversation"), word, object({ id: word })),
  prompt_cache_retention: word,
  truncation: word,
  reasoning: object({ effort: word, summary: word, generate_summary: word, mode: word }),
  text: either(repeated("text"), object({ format: object({ type: word }), verbosity: word })),
  tool_choice: either(repeated("tool_choice"), word),
  ...Object.fromEntries(
    ["instructions", "metadata", "tools", "prompt", "user", "safety_identifier", "prompt_cache_key"].map(
      (name) => [name, repeated(name)],
    ),
  ),
};

const response = { response: level(responseFields) };
const item = { item: outputItem };
const inItem = { item_id: word };
const inPart = { ...inItem, part };

const said = {
  "response.output_text": "text",
  "response.refusal": "refusal",
  "response.reasoning_text": "text",
  "response.reasoning_summary_text": "text",
};
const calls = {
  "response.function_call_arguments": "arguments",
  "response.mcp_call_arguments": "arguments",
  "response.custom_tool_call_input": "input",
  "response.code_interpreter_call_code": "code",
};
const progress = {
  web_search_call: ["in_progress", "searching", "completed"],
  file_search_call: ["in_progress", "searching", "completed"],
  code_interpreter_call: ["in_progress", "interpreting", "completed"],
  image_generation_call: ["in_progress", "generating", "completed"],
  mcp_call: ["in_progress", "completed", "failed"],
  mcp_list_tools: ["in_progress", "completed", "failed"],
};

const numbered = ["created", "queued", "in_progress", "completed", "incomplete"];

/** The events of an answer, beside those that bring text; of others nothing passes. */
export const eventFields: Readonly<Record<string, Fields>> = {
  ...Object.fromEntries(numbered.map((name) => [`response.${name}`, response])),
  keepalive: {},
  "response.output_item.added": item,
  "response.output_item.done": item,
  "response.content_part.added": inPart,
  "response.content_part.done": inPart,
  "response.reasoning_summary_part.added": inPart,
  "response.reasoning_summary_part.done": inPart,
  "response.output_text.annotation.added": { ...inItem, annotation },
  ...Object.fromEntries(
    Object.entries(said).map(([name, field]) => [
      `${name}.done`,
      { ...inItem, [field]: text("content", name), logprobs: tokenList },
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(calls).flatMap(([name, field]) => [
      [`${name}.delta`, { ...inItem, delta: called(field, field === "arguments") }],
      [`${name}.done`, { ...inItem, name: calledName, [field]: called(field, field === "arguments") }],
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(progress).flatMap(([name, states]) =>
      states.map((state) => [`response.${name}.${state}`, inItem]),
    ),
  ),
};

/** Of an event that brings text, beside it. */
export const deltaFields: Fields = inItem;
