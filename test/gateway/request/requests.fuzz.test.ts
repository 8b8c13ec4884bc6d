import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { RequestError } from "../../../src/gateway/api-error.js";
import { ENDPOINTS } from "../../../src/gateway/endpoints.js";
import { FieldReader } from "../../../src/gateway/request/fields.js";
import { policyOf } from "../../gate/scripted.js";
import { type Change, changesOf, type Fields, type Json } from "../../support/json-changes.js";

/** Cases an endpoint; FUZZ_RUNS asks for more. */
const numRuns = Number(process.env.FUZZ_RUNS ?? 500);
const timeout = Math.max(240_000, numRuns * 20);

/** No word, and in no request as it is. */
const TEXT = "these are the words";

/** What is put into a request: the text in some form. */
const PAYLOADS: Record<string, Json> = {
  text: TEXT,
  list: [TEXT],
  lists: [[TEXT]],
  part: [{ type: "text", text: TEXT }],
  inputPart: [{ type: "input_text", text: TEXT }],
  refusal: { type: "refusal", refusal: TEXT },
  thinking: [{ type: "thinking", thinking: TEXT }],
  unknownPart: [{ type: "speech", transcript: TEXT }],
  image: [{ type: "image_url", image_url: { url: TEXT } }],
  document: { type: "document", source: { type: "text", data: TEXT } },
  message: { role: "user", content: TEXT },
  messages: [{ role: "tool", content: TEXT, tool_call_id: "t" }],
  call: [{ id: "t", type: "function", function: { name: "f", arguments: `{"a":"${TEXT}"}` } }],
  custom: [{ id: "t", type: "custom", custom: { name: "f", input: TEXT }, arguments: null }],
  item: { type: "custom_tool_call", call_id: "t", name: "f", input: TEXT, arguments: null },
  output: { type: "function_call_output", call_id: "t", output: TEXT },
  schema: { type: "object", properties: { a: { description: TEXT } } },
  nested: { a: { b: [{ c: TEXT }] } },
  key: { [TEXT]: 1 },
  keys: { type: "text", text: "a", [TEXT]: null },
  number: 5,
  yes: true,
  none: null,
  empty: {},
  nothing: [],
};

/** Names to put it under: of every API and level, and of none. What steers decoding alone is not among them. */
const NAMES = [
  ...`messages input prompt suffix system instructions model user metadata tools functions tool_choice format text
  response_format stream_options prediction documents reasoning_effort verbosity chat_template chat_template_kwargs
  guided_json guided_choice structured_outputs json_schema options template context keep_alive think provider plugins
  models transforms thinking cache_control service_tier container mcp_servers output_config output_format
  context_management previous_response_id conversation include truncation variables data_sources prompt_embeds
  role content name refusal reasoning reasoning_content reasoning_details annotations tool_calls function_call audio
  images tool_call_id tool_name id status phase type function custom arguments output summary encrypted_content
  extra_content signature data source title citations action actions operation results outputs code queries tool_use_id
  caller description parameters input_schema strict whatever Messages CONTENT constructor toString toJSON __proto__`.split(
    /\s+/,
  ),
  "meſſages",
  TEXT,
];

const changes = changesOf(NAMES, PAYLOADS, { furthest: 80, most: 3 });

const call = { id: "t", type: "function", function: { name: "f", arguments: "{}" } };
const tool = {
  type: "function",
  function: { name: "f", description: "d", parameters: { type: "object", properties: {} } },
};
const chat: Json[] = [
  { role: "system", content: "s" },
  { role: "user", content: [{ type: "text", text: "a" }] },
  {
    role: "assistant",
    content: "b",
    tool_calls: [call],
    reasoning_details: [{ type: "reasoning.text", text: "r" }],
  },
  { role: "tool", content: "c", tool_call_id: "t" },
  { role: "user", content: "d", name: "n" },
];

const REQUESTS: Record<string, Fields> = {
  "/chat/completions": { model: "m", messages: chat, tools: [tool], metadata: { a: "b" } },
  "/completions": { model: "m", prompt: ["a", "b"], suffix: "c" },
  "/responses": {
    model: "m",
    instructions: "s",
    prompt: { id: "p", variables: { a: "b", c: { type: "input_text", text: "d" } } },
    input: [
      { role: "user", content: [{ type: "input_text", text: "a" }] },
      {
        type: "reasoning",
        id: "r",
        summary: [{ type: "summary_text", text: "b" }],
        encrypted_content: "eA==",
      },
      { type: "function_call", call_id: "t", name: "f", arguments: "{}" },
      { type: "custom_tool_call", call_id: "u", name: "g", input: "i" },
      { type: "function_call_output", call_id: "t", output: [{ type: "input_text", text: "c" }] },
      { type: "mcp_call", id: "x", name: "h", arguments: "{}", output: "o" },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "e", annotations: [] }] },
      { role: "user", content: "f" },
    ],
    text: { format: { type: "text" } },
  },
  "/v1/messages": {
    model: "m",
    system: [{ type: "text", text: "s", cache_control: { type: "ephemeral" } }],
    messages: [
      { role: "user", content: [{ type: "text", text: "a" }] },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "b", signature: "eA==" },
          { type: "tool_use", id: "t", name: "f", input: { c: "d" } },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "t", content: [{ type: "text", text: "e" }] },
          { type: "document", source: { type: "text", media_type: "text/plain", data: "g" }, title: "h" },
          { type: "search_result", source: "i", title: "j", content: [{ type: "text", text: "k" }] },
        ],
      },
    ],
    tools: [{ name: "f", description: "d", input_schema: { type: "object" } }],
  },
  "/api/chat": { model: "m", messages: chat, tools: [tool], options: { seed: 1 } },
  "/api/generate": { model: "m", prompt: "a", system: "s", suffix: "b", options: { seed: 1 } },
};

/** Objects and lists of a value, itself first. */
function nodesOf(value: Json): (Json[] | Fields)[] {
  if (typeof value !== "object" || value === null) return [];
  return [value, ...(Array.isArray(value) ? value : Object.values(value)).flatMap(nodesOf)];
}

function changed(request: Fields, list: Change[]): Fields {
  const copy = structuredClone(request);
  for (const { at, name, payload, replaces } of list) {
    const nodes = nodesOf(copy);
    const node = nodes[at % nodes.length];
    const value = structuredClone(PAYLOADS[payload]);
    const names = Object.keys(node);
    if (Array.isArray(node)) node.splice(0, replaces ? 1 : 0, value);
    else {
      const place = replaces && names.length > 0 ? names[at % names.length] : name;
      // As JSON's parser does it, which takes any name for the object's own.
      Object.defineProperty(node, place, { value, enumerable: true, configurable: true, writable: true });
    }
  }
  return copy;
}

test.each(Object.keys(REQUESTS))(
  "%s: a text anywhere in a request is shown to the guard, or the request is refused",
  (endpoint) => {
    fc.assert(
      fc.property(changes, (list) => {
        const body = JSON.stringify(changed(REQUESTS[endpoint], list));
        const reader = new FieldReader(policyOf({}));
        let shown: string;
        try {
          const { choices } = ENDPOINTS[endpoint].parse(JSON.parse(body), reader);
          shown = JSON.stringify(choices.map(({ messages, prefill }) => [messages, prefill]));
        } catch (error) {
          if (error instanceof RequestError) expect(error.status).toBe(400);
          else expect(error).toBeInstanceOf(InputError);
          return;
        }
        if (body.includes(TEXT)) expect(shown, body).toContain(TEXT);
      }),
      { numRuns },
    );
  },
  timeout,
);

test("the requests that are changed are ones that are judged as they are", () => {
  for (const [endpoint, body] of Object.entries(REQUESTS)) {
    const { choices } = ENDPOINTS[endpoint].parse(structuredClone(body), new FieldReader(policyOf({})));
    expect(choices.length, endpoint).toBeGreaterThan(0);
  }
});
