import type { Fields } from "../request/fields.js";

/** What a request to Anthropic's `/v1/messages`, or a server like it, holds beside the conversation. */
export const MESSAGES_BODY: Fields = {
  model: "word",
  messages: "read",
  system: "read",
  stream: "read",
  metadata: "word",
  stop_sequences: "unread",
  tools: {
    type: "word",
    name: "text",
    description: "text",
    input_schema: "text",
    input_examples: "text",
    cache_control: "word",
    allowed_callers: "word",
    allowed_domains: "word",
    blocked_domains: "word",
    user_location: "word",
    citations: "word",
    default_config: "word",
    configs: "word",
    mcp_server_name: "word",
  },
  tool_choice: "word",
  thinking: "word",
  service_tier: "word",
  container: "word",
  output_config: { effort: "word", format: { type: "word", name: "text", schema: "text" } },
  output_format: { type: "word", name: "text", schema: "text" },
  cache_control: "word",
  context_management: "word",
  mcp_servers: {
    type: "word",
    name: "word",
    url: "word",
    authorization_token: "word",
    tool_configuration: "word",
  },
  diagnostics: "word",
  inference_geo: "word",
  speed: "word",
  user_profile_id: "word",
  workspace_id: "word",
  betas: "word",
};

export const MESSAGE: Fields = { role: "read", content: "read" };

/** How a block is read, and its fields beside what is read apart. */
interface Block {
  /** text, thought: of the message itself. call: the model's. result: a turn of a tool's. document: files or text. */
  as: "text" | "thought" | "call" | "result" | "document" | "attachment";
  fields: Fields;
}

const CALL: Fields = {
  type: "read",
  id: "word",
  name: "read",
  input: "read",
  caller: "word",
  toolset_name: "word",
  server_name: "word",
  cache_control: "word",
};
const RESULT: Fields = {
  type: "read",
  tool_use_id: "word",
  content: "read",
  toolset_name: "word",
  caller: "word",
  cache_control: "word",
};
/** What a server's own tool gave, in any of its forms. */
const GIVEN: Fields = {
  ...RESULT,
  content: {
    type: "word",
    title: "text",
    url: "word",
    page_age: "word",
    retrieved_at: "word",
    encrypted_content: "sealed",
    encrypted_stdout: "sealed",
    error_code: "word",
    error_message: "text",
    text: "text",
    stdout: "text",
    stderr: "text",
    lines: "text",
    file_type: "word",
    file_id: "word",
    tool_references: { type: "word", tool_name: "word" },
    citations: "text",
    cache_control: "word",
    content: {
      type: "word",
      file_id: "word",
      title: "text",
      context: "text",
      citations: "word",
      source: { type: "word", media_type: "word", data: "text", url: "word", file_id: "word" },
    },
  },
};

export const BLOCKS: Readonly<Record<string, Block>> = {
  text: { as: "text", fields: { type: "read", text: "read", citations: "text", cache_control: "word" } },
  thinking: { as: "thought", fields: { type: "read", thinking: "read", signature: "sealed" } },
  redacted_thinking: { as: "thought", fields: { type: "read", data: "sealed" } },
  compaction: {
    as: "text",
    fields: { type: "read", content: "text", encrypted_content: "sealed", cache_control: "word" },
  },
  tool_use: { as: "call", fields: CALL },
  server_tool_use: { as: "call", fields: CALL },
  mcp_tool_use: { as: "call", fields: CALL },
  tool_result: { as: "result", fields: RESULT },
  mcp_tool_result: { as: "result", fields: RESULT },
  web_search_tool_result: { as: "result", fields: GIVEN },
  web_fetch_tool_result: { as: "result", fields: GIVEN },
  code_execution_tool_result: { as: "result", fields: GIVEN },
  bash_code_execution_tool_result: { as: "result", fields: GIVEN },
  text_editor_code_execution_tool_result: { as: "result", fields: GIVEN },
  tool_search_tool_result: { as: "result", fields: GIVEN },
  tool_reference: { as: "text", fields: { type: "read", tool_name: "word", cache_control: "word" } },
  search_result: {
    as: "text",
    fields: {
      type: "read",
      source: "text",
      title: "text",
      content: "read",
      citations: "word",
      cache_control: "word",
    },
  },
  document: {
    as: "document",
    fields: {
      type: "read",
      source: "read",
      title: "text",
      context: "text",
      citations: "word",
      cache_control: "word",
    },
  },
  image: { as: "attachment", fields: {} },
  container_upload: { as: "attachment", fields: {} },
};

/** Of a document that is text. Others are attachments. */
export const TEXT_SOURCE: Fields = { type: "read", media_type: "word", data: "read", content: "read" };
