import { list as listOf } from "../../validation/json.js";
import {
  called,
  calledName,
  either,
  type Fields,
  figures,
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
import { passing } from "../answer/passing.js";

const usage = figures("service_tier", "inference_geo", "speed");
const model = either(repeated("model"), word, label);
const container = object({ id: word, expires_at: word });
/** Only where the request named it. */
const stopSequence = passing("where the request named it", (value, { request }) =>
  listOf(request.stop_sequences).includes(value) ? value : null,
);
/** What a client must find, and nobody has judged. */
const withheld = passing("empty", () => "");
const nothing = passing("null", () => null);

const citation = object({ type: word, url, file_id: word, encrypted_index: opaque });
const caller = object({ type: word, tool_id: word });
const call: Fields = { id: word, name: calledName, input: called("input"), caller, toolset_name: word };
const searchResult = object({
  type: word,
  url,
  title: withheld,
  page_age: label,
  encrypted_content: opaque,
});
/** What a server's own tools gave: that they gave something, and what only the server can read. */
const found = list(searchResult);
const told = object({ type: word, error_code: word, url, retrieved_at: word, encrypted_stdout: opaque });
const given = passing({ either: [found, told] }, (value, reader) =>
  Array.isArray(value) ? found(value, reader) : told(value, reader),
);
const result: Fields = { tool_use_id: word, content: given, caller };

/** A block of an answer. Blocks are numbered: one that is left out would move those that follow. */
const block = typed(
  {
    text: { text: text("content", "text_delta"), citations: optionalList(citation) },
    thinking: { thinking: text("reasoning", "thinking_delta"), signature: opaque },
    redacted_thinking: { data: opaque },
    tool_use: call,
    server_tool_use: call,
    mcp_tool_use: { ...call, server_name: label },
    web_search_tool_result: result,
    web_fetch_tool_result: result,
    code_execution_tool_result: result,
    bash_code_execution_tool_result: result,
    text_editor_code_execution_tool_result: result,
    tool_search_tool_result: result,
    mcp_tool_result: result,
    container_upload: { file_id: word },
  },
  "text",
  {},
);

const ending: Fields = {
  stop_reason: word,
  stop_sequence: stopSequence,
  stop_details: object({ type: word, category: word, explanation: nothing }),
  container,
};
const head: Fields = { id: word, type: word, role, model, usage, context_management: figures(), ...ending };

/** Of a whole answer. */
export const messageFields: Fields = { ...head, content: list(block) };

const delta = typed({
  text_delta: { text: text("content", "text_delta") },
  thinking_delta: { thinking: text("reasoning", "thinking_delta") },
  signature_delta: { signature: opaque },
  input_json_delta: { partial_json: called("input") },
  citations_delta: { citation },
});
const named = passing("the event's name", (value) => value);

/** The events of an answer; of others nothing passes. */
export const eventShapes: Readonly<Record<string, Shape>> = {
  message_start: level({ type: named, message: level({ ...head, content: passing("empty", () => []) }) }),
  content_block_start: level({ type: named, content_block: block }),
  content_block_delta: level({ type: named, delta }),
  content_block_stop: level({ type: named }),
  message_delta: level({ type: named, delta: level(ending), usage, context_management: figures() }),
  message_stop: level({ type: named }),
};
