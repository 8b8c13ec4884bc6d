import type { Fields } from "./fields.js";

/**
 * What requests of known servers hold beside the conversation. Fields with nothing but numbers and booleans need no
 * entry. docs/fields.md is made of it.
 */
const OPENAI: Fields = {
  model: "word",
  user: "word",
  stream: "read",
  stream_options: "word",
  metadata: "word",
  service_tier: "word",
  safety_identifier: "word",
  prompt_cache_key: "word",
  prompt_cache_retention: "word",
  moderation: "word",
  tools: "text",
  tool_choice: "word",
  reasoning: "word",
  verbosity: "word",
};

const AZURE: Fields = {
  data_sources: "refused",
  user_security_context: "word",
};

const VLLM: Fields = {
  documents: "text",
  chat_template: "refused",
  chat_template_kwargs: "settings",
  prompt_embeds: "refused",
  prompt_token_ids: "refused",
  guided_json: "text",
  guided_choice: "text",
  guided_regex: "unread",
  guided_grammar: "unread",
  guided_decoding_backend: "word",
  guided_whitespace_pattern: "unread",
  structural_tag: "text",
  structured_outputs: {
    json: "text",
    choice: "text",
    structural_tag: "text",
    regex: "unread",
    grammar: "unread",
    whitespace_pattern: "unread",
  },
  bad_words: "unread",
  stop_token_ids: "unread",
  allowed_token_ids: "unread",
  logits_processors: "unread",
  mm_processor_kwargs: "word",
  media_io_kwargs: "word",
  kv_transfer_params: "word",
  ec_transfer_params: "word",
  truncation_side: "word",
  vllm_xargs: "word",
  cache_salt: "word",
  request_id: "word",
};

const LLAMA_CPP: Fields = {
  json_schema: "text",
  grammar: "unread",
  grammar_triggers: "unread",
  preserved_tokens: "unread",
  samplers: "unread",
  dry_sequence_breakers: "unread",
  lora: "word",
  reasoning_format: "word",
  response_fields: "word",
};

const OLLAMA: Fields = {
  options: { stop: "unread" },
  format: "text",
  keep_alive: "word",
  think: "word",
};

const OPENROUTER: Fields = {
  models: "word",
  route: "word",
  provider: "word",
  transforms: "word",
  plugins: "word",
  usage: "word",
  session_id: "word",
  trace: "word",
  thinking: "word",
  cache_control: "word",
};

const COMMON: Fields = {
  ...OPENAI,
  ...AZURE,
  ...VLLM,
  ...LLAMA_CPP,
  ...OLLAMA,
  ...OPENROUTER,
  stop: "unread",
  logit_bias: "unread",
};

export const CHAT_BODY: Fields = {
  ...COMMON,
  messages: "read",
  moderation: { model: "word", policy: "word" },
  n: "read",
  functions: "text",
  function_call: "word",
  response_format: "text",
  prediction: { type: "word", content: "text" },
  reasoning_effort: "word",
  modalities: "word",
  audio: "word",
  web_search_options: "word",
};

export const COMPLETIONS_BODY: Fields = {
  ...COMMON,
  prompt: "read",
  suffix: "read",
  n: "read",
  response_format: "text",
};

export const RESPONSES_BODY: Fields = {
  ...COMMON,
  input: "read",
  moderation: { model: "word", policy: "word" },
  instructions: "read",
  prompt: "read",
  previous_response_id: "word",
  conversation: "word",
  text: { format: "text", verbosity: "word" },
  include: "word",
  truncation: "word",
  context_management: "word",
};

/** What a message holds in any API, and what clients send back of an answer. */
export const MESSAGE: Fields = {
  type: "word",
  role: "read",
  content: "read",
  name: "read",
  refusal: "read",
  audio: "read",
  images: "read",
  tool_calls: "read",
  function_call: "read",
  reasoning: "read",
  reasoning_content: "read",
  thinking: "read",
  reasoning_details: {
    type: "word",
    text: "text",
    summary: "text",
    data: "sealed",
    signature: "sealed",
    id: "word",
    format: "word",
  },
  annotations: "text",
  tool_call_id: "word",
  tool_name: "word",
  id: "word",
  status: "word",
  phase: "word",
  cache_control: "word",
  extra_content: "sealed",
};

export const TOOL_CALL: Fields = {
  type: "word",
  id: "word",
  function: "read",
  custom: "read",
  extra_content: "sealed",
};

/** The function of a tool call. */
export const CALL: Fields = { name: "read", arguments: "read", input: "read" };

/** A part of text. */
export const TEXT_PART: Fields = {
  type: "read",
  text: "read",
  refusal: "read",
  thinking: "text",
  annotations: "text",
  reference_ids: "word",
  logprobs: "unread",
  id: "word",
  cache_control: "word",
  prompt_cache_breakpoint: "word",
  signature: "sealed",
};

/** Parts and items that no guard of texts can read. */
export const ATTACHMENTS = new Set(
  `image image_url input_image image_file image_embeds input_audio audio audio_url audio_embeds video video_url
  file input_file computer_screenshot computer_call_output image_generation_call`.split(/\s+/),
);

const ITEM: Fields = {
  type: "read",
  id: "word",
  call_id: "word",
  status: "word",
  namespace: "word",
  server_label: "word",
  container_id: "word",
  approval_request_id: "word",
  created_by: "word",
  environment: "word",
  caller: "word",
  execution: "word",
};

interface Item {
  /** Whose turn it is in. */
  role: "assistant" | "tool";
  fields: Fields;
}

const said = (fields: Fields): Item => ({ role: "assistant", fields: { ...ITEM, ...fields } });
const came = (fields: Fields): Item => ({ role: "tool", fields: { ...ITEM, ...fields } });

/** The items of a responses request that are no messages. */
export const ITEMS: Record<string, Item> = {
  reasoning: said({ summary: "text", content: "text", encrypted_content: "sealed" }),
  compaction: said({ encrypted_content: "sealed" }),
  function_call: said({ name: "read", arguments: "read" }),
  function_call_output: came({ output: "read" }),
  custom_tool_call: said({ name: "read", input: "read" }),
  custom_tool_call_output: came({ output: "read" }),
  local_shell_call: said({ action: "text" }),
  local_shell_call_output: came({ output: "text" }),
  shell_call: said({ action: "text", max_output_length: "word" }),
  shell_call_output: came({ output: "text", max_output_length: "word" }),
  apply_patch_call: said({ operation: "text" }),
  apply_patch_call_output: came({ output: "text" }),
  computer_call: said({ action: "text", actions: "text", pending_safety_checks: "text" }),
  web_search_call: said({ action: "text" }),
  file_search_call: came({ queries: "text", results: "text" }),
  code_interpreter_call: came({ code: "text", outputs: "text" }),
  mcp_list_tools: came({ tools: "text", error: "text" }),
  mcp_call: came({ name: "text", arguments: "text", output: "text", error: "text" }),
  mcp_approval_request: said({ name: "text", arguments: "text" }),
  mcp_approval_response: came({ reason: "text" }),
};
