import { expect, test } from "vitest";
import { ENDPOINTS } from "../../../src/gateway/endpoints.js";
import { FieldReader } from "../../../src/gateway/request/fields.js";
import { policyOf } from "../../gate/scripted.js";

const hi = { role: "user", content: "Hi" };
const messages = [hi];
const sampling = {
  temperature: 0.7,
  top_p: 0.9,
  max_tokens: 100,
  seed: 7,
  presence_penalty: 0,
  frequency_penalty: 0,
};

/** What clients of known servers send beside the conversation, with nothing in it that anybody would have to judge. */
const BODIES: Record<string, [endpoint: string, body: object]> = {
  OpenAI: [
    "/chat/completions",
    {
      model: "gpt-5-mini",
      messages,
      stream: true,
      stream_options: { include_usage: true, include_obfuscation: false },
      ...sampling,
      max_completion_tokens: 100,
      stop: ["\n\nHuman:", "the end"],
      logit_bias: { 50256: -100 },
      logprobs: true,
      top_logprobs: 2,
      n: 2,
      user: "user-1234",
      safety_identifier: "a8f5f167f44f4964e6c998dee827110c",
      prompt_cache_key: "chat-1",
      prompt_cache_retention: "24h",
      service_tier: "auto",
      reasoning_effort: "low",
      verbosity: "low",
      modalities: ["text"],
      store: false,
      metadata: { session: "5f2c", release: "2026-11-26" },
      parallel_tool_calls: true,
      tool_choice: "auto",
      response_format: { type: "json_object" },
      web_search_options: {
        search_context_size: "low",
        user_location: { type: "approximate", approximate: { country: "DE" } },
      },
    },
  ],
  "OpenAI, an answer sent back as it came": [
    "/chat/completions",
    {
      model: "gpt-5-mini",
      messages: [
        hi,
        {
          role: "assistant",
          content: "Hello",
          refusal: null,
          annotations: [],
          audio: null,
          function_call: null,
          tool_calls: null,
        },
        hi,
      ],
    },
  ],
  "OpenAI, responses": [
    "/responses",
    {
      model: "gpt-5-mini",
      input: [{ role: "user", content: [{ type: "input_text", text: "Hi" }] }],
      stream: true,
      store: false,
      include: ["reasoning.encrypted_content"],
      reasoning: { effort: "low", summary: "auto" },
      text: { format: { type: "text" }, verbosity: "low" },
      truncation: "auto",
      max_output_tokens: 100,
      max_tool_calls: 3,
      background: false,
      service_tier: "default",
      metadata: {},
    },
  ],
  "Azure OpenAI": [
    "/chat/completions",
    { messages, ...sampling, user_security_context: { application_name: "shop" } },
  ],
  vLLM: [
    "/chat/completions",
    {
      model: "Qwen/Qwen3-8B",
      messages,
      ...sampling,
      top_k: 20,
      min_p: 0,
      repetition_penalty: 1.1,
      stop_token_ids: [151643, 151645],
      bad_words: ["foo bar"],
      ignore_eos: false,
      min_tokens: 1,
      skip_special_tokens: true,
      add_generation_prompt: true,
      continue_final_message: false,
      chat_template_kwargs: { enable_thinking: false, thinking_budget: 100, reasoning_effort: "high" },
      mm_processor_kwargs: { num_crops: 4 },
      guided_regex: "[a-z ]+\\.",
      guided_grammar: 'root ::= "yes" | "no"',
      guided_decoding_backend: "xgrammar",
      structured_outputs: { regex: "\\d+ days" },
      priority: 0,
      request_id: "chatcmpl-1",
      return_token_ids: false,
      truncate_prompt_tokens: -1,
      cache_salt: "abc",
      vllm_xargs: { mode: "fast" },
    },
  ],
  "llama.cpp": [
    "/chat/completions",
    {
      messages,
      ...sampling,
      cache_prompt: true,
      id_slot: -1,
      samplers: ["top_k", "temperature"],
      mirostat: 0,
      typical_p: 1,
      n_predict: 100,
      grammar: "root ::= [a-z ]+",
      grammar_lazy: false,
      dry_sequence_breakers: ["\n", ":"],
      lora: [{ id: 0, scale: 0.5 }],
      logit_bias: [[" Hello there", -0.5]],
      timings_per_token: true,
      reasoning_format: "deepseek",
      chat_template_kwargs: { enable_thinking: true },
    },
  ],
  Ollama: [
    "/chat/completions",
    {
      model: "qwen3:8b",
      messages,
      ...sampling,
      keep_alive: "5m",
      think: false,
      format: "json",
      options: { num_ctx: 8192, stop: ["a b"] },
      reasoning_effort: "none",
    },
  ],
  OpenRouter: [
    "/chat/completions",
    {
      model: "anthropic/claude-sonnet-4.5:beta",
      messages: [
        {
          role: "user",
          content: [{ type: "text", text: "Hi", cache_control: { type: "ephemeral", ttl: "1h" } }],
        },
      ],
      models: ["openai/gpt-5", "~google/gemini"],
      route: "fallback",
      provider: {
        order: ["deepinfra/turbo"],
        allow_fallbacks: true,
        quantizations: ["fp8"],
        max_price: { prompt: 1 },
      },
      transforms: ["middle-out"],
      plugins: [{ id: "web", max_results: 3, engine: "exa" }],
      reasoning: { effort: "high", exclude: false },
      usage: { include: true },
      top_a: 0.5,
      session_id: "s-1",
    },
  ],
  "Anthropic, as its coding agents ask": [
    "/v1/messages",
    {
      model: "claude-sonnet-5",
      max_tokens: 32_000,
      messages: [
        { role: "user", content: [{ type: "text", text: "Hi", cache_control: { type: "ephemeral" } }] },
      ],
      stream: true,
      temperature: 1,
      metadata: { user_id: "user_5f2c" },
      stop_sequences: ["\n\nHuman:"],
      thinking: { type: "enabled", budget_tokens: 16_000 },
      tool_choice: { type: "auto", disable_parallel_tool_use: true },
      service_tier: "auto",
      container: { id: "c1", skills: [{ skill_id: "pptx", type: "anthropic", version: "latest" }] },
      output_config: { effort: "high" },
      context_management: { edits: [{ type: "clear_thinking_20251015", keep: "all" }] },
    },
  ],
  "Ollama's own chat": [
    "/api/chat",
    {
      model: "qwen3:8b",
      messages: [{ ...hi, images: [] }],
      think: "high",
      format: "json",
      keep_alive: "5m",
      options: { num_ctx: 8192, stop: ["a b"] },
      logprobs: true,
      truncate: true,
    },
  ],
  "Ollama's own generate": [
    "/api/generate",
    { model: "qwen3:8b", prompt: "Hi", raw: false, context: [], images: [], suffix: "", keep_alive: 300 },
  ],
  "completions of any server": [
    "/completions",
    { model: "m", prompt: "Hi", ...sampling, echo: false, best_of: 1, logprobs: 1, stop: "\n", suffix: null },
  ],
};

test.each(Object.entries(BODIES))(
  "%s: passes, and the guard reads the conversation alone",
  (_, [endpoint, body]) => {
    const reader = new FieldReader(policyOf());
    const { choices } = ENDPOINTS[endpoint].parse(JSON.parse(JSON.stringify(body)), reader);
    expect(reader.unjudged).toEqual([]);
    const shown = choices[0].messages.map(({ content }) => content);
    expect(new Set(shown)).toEqual(new Set(shown.length === 1 ? ["Hi"] : ["Hi", "Hello"]));
  },
);

const AGENT = {
  model: "google/gemini-3",
  messages: [
    { role: "system", content: "Use the tools." },
    hi,
    {
      role: "assistant",
      content: null,
      reasoning_details: [
        { type: "reasoning.encrypted", data: "gAAAA", id: "r", format: "openai-responses-v1", index: 0 },
      ],
      tool_calls: [
        {
          id: "c1",
          type: "function",
          index: 0,
          function: { name: "read", arguments: '{"path":"a"}' },
          extra_content: { google: { thought_signature: "AAAA" } },
        },
      ],
    },
    { role: "tool", tool_call_id: "c1", name: "read", content: [{ type: "text", text: "hello" }] },
  ],
  tools: [
    {
      type: "function",
      function: { name: "read", strict: true, parameters: { type: "object", required: ["path"] } },
    },
  ],
};

test("agents: calls, their answers, and what is sealed of their reasoning", () => {
  const reader = new FieldReader(policyOf());
  const { choices } = ENDPOINTS["/chat/completions"].parse(AGENT, reader);
  expect(reader.unjudged).toEqual(["sealed", "sealed"]);
  expect(choices[0].messages).toEqual([
    { role: "system", content: "Use the tools." },
    { role: "user", content: "read\npath", standing: true },
    hi,
    {
      role: "assistant",
      content: "",
      tool_calls: [{ type: "function", function: { name: "read", arguments: '{"path":"a"}' } }],
    },
    { role: "tool", content: "read: hello" },
  ]);
});

const ITEMS = {
  input: [
    { type: "message", role: "user", content: [{ type: "input_text", text: "Hi" }] },
    {
      type: "reasoning",
      id: "r",
      summary: [{ type: "summary_text", text: "a" }],
      content: null,
      encrypted_content: "x",
    },
    { type: "function_call", id: "i", call_id: "c", name: "f", arguments: "{}", status: "completed" },
    { type: "function_call_output", call_id: "c", output: [{ type: "input_text", text: "b" }] },
    { type: "custom_tool_call", call_id: "d", name: "g", input: "c" },
    { type: "custom_tool_call_output", call_id: "d", output: "d" },
    { type: "local_shell_call", call_id: "e", action: { type: "exec", command: ["ls"], env: {} } },
    { type: "web_search_call", id: "w", status: "completed", action: { type: "search", query: "q" } },
    { type: "mcp_call", id: "m", server_label: "s", name: "h", arguments: "{}", output: "e", error: null },
  ],
  prompt: { id: "p", version: "1", variables: { a: "b", c: { type: "input_text", text: "d" } } },
  previous_response_id: "resp_1",
};
const OLD_CALL = {
  messages: [
    hi,
    {
      role: "assistant",
      content: "",
      refusal: "no",
      name: "n",
      function_call: { name: "f", arguments: "{}" },
    },
    { role: "user", content: [{ type: "text", text: "Hi" }, "more", { type: "thinking", thinking: "x" }] },
  ],
};

const BLOCKS = {
  system: [{ type: "text", text: "Use the tools.", cache_control: { type: "ephemeral", ttl: "1h" } }],
  messages: [
    hi,
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: "A plan.", signature: "c2ln" },
        { type: "redacted_thinking", data: "b3BhcXVl" },
        { type: "text", text: "Rea", citations: null },
        { type: "text", text: "ding." },
        { type: "tool_use", id: "t1", name: "read", input: { path: "a" }, caller: { type: "direct" } },
        { type: "server_tool_use", id: "s1", name: "web_search", input: { query: "b" } },
        {
          type: "web_search_tool_result",
          tool_use_id: "s1",
          content: [
            {
              type: "web_search_result",
              url: "https://example.com",
              title: "c",
              encrypted_content: "eA==",
              page_age: null,
            },
          ],
        },
      ],
    },
    {
      role: "user",
      content: [
        {
          type: "tool_result",
          tool_use_id: "t1",
          content: [
            { type: "text", text: "hel" },
            { type: "text", text: "lo" },
          ],
        },
        { type: "tool_result", tool_use_id: "t2", content: "there", is_error: true },
        {
          type: "document",
          source: { type: "text", media_type: "text/plain", data: "A page." },
          title: "d",
          context: "e",
          citations: { enabled: true },
        },
        {
          type: "search_result",
          source: "f",
          title: "g",
          content: [{ type: "text", text: "h" }],
          citations: { enabled: true },
        },
        { type: "text", text: "Go on." },
      ],
    },
  ],
  tools: [
    {
      name: "read",
      description: "Reads.",
      input_schema: { type: "object", properties: { path: { type: "string" } }, required: ["path"] },
      cache_control: { type: "ephemeral" },
    },
    { type: "web_search_20250305", name: "web_search", max_uses: 5, allowed_domains: ["example.com"] },
  ],
  mcp_servers: [{ type: "url", name: "m", url: "https://example.com/mcp", authorization_token: "x" }],
  output_config: { format: { type: "json_schema", schema: { type: "object" } } },
};
const OLLAMA_AGENT = {
  messages: [
    { role: "system", content: "Use the tools." },
    hi,
    {
      role: "assistant",
      content: "",
      thinking: "Hm.",
      tool_calls: [{ function: { name: "f", arguments: { a: "b" } } }],
    },
    { role: "tool", content: "hello", tool_name: "f" },
  ],
  tools: [{ type: "function", function: { name: "f", description: "c", parameters: { type: "object" } } }],
  format: { type: "object", properties: { d: { type: "string" } } },
};
const GENERATE = {
  prompt: "Hi",
  suffix: "there",
  system: "Be brief.",
  format: "json",
  options: { stop: [] },
};

test("Anthropic's blocks: the guard reads each in the turn that it belongs to", () => {
  const reader = new FieldReader(policyOf());
  const { choices } = ENDPOINTS["/v1/messages"].parse(BLOCKS, reader);
  expect(reader.unjudged).toEqual(["sealed", "sealed", "sealed"]);
  const call = (name: string, given: string) => ({ type: "function", function: { name, arguments: given } });
  expect(choices[0].messages).toEqual([
    { role: "system", content: "Use the tools." },
    { role: "user", content: "read\nReads.\npath\nweb_search", standing: true },
    hi,
    {
      role: "assistant",
      content: "A plan.\n\nReading.",
      tool_calls: [call("read", '{"path":"a"}'), call("web_search", '{"query":"b"}')],
    },
    { role: "tool", content: "c" },
    { role: "tool", content: "hello" },
    { role: "tool", content: "there" },
    { role: "user", content: "A page.\nd\ne\n\nf\ng\nh\n\nGo on." },
  ]);
});

test("Anthropic's last message of the assistant's is how the answer begins", () => {
  const messages = [hi, { role: "assistant", content: [{ type: "text", text: "Hel" }] }];
  const { choices } = ENDPOINTS["/v1/messages"].parse({ messages }, new FieldReader(policyOf()));
  expect(choices).toEqual([{ messages: [hi], prefill: "Hel" }]);
});

test.each([
  ["an image", { type: "image", source: { type: "url", url: "https://example.com/a.png" } }],
  ["a file", { type: "document", source: { type: "base64", media_type: "application/pdf", data: "eA==" } }],
  ["a file within a tool's result", { type: "tool_result", tool_use_id: "t", content: [{ type: "image" }] }],
  ["a block of unknown type", { type: "hologram" }],
  ["a field of no block", { type: "text", text: "Hi", whatever: "x" }],
])("Anthropic: %s is refused", (_, block) => {
  const messages = [{ role: "user", content: [block] }];
  expect(() => ENDPOINTS["/v1/messages"].parse({ messages }, new FieldReader(policyOf()))).toThrow();
});

/** Passes by its name, as no model reads it, or no guard can: see docs/protect.md. */
const UNREAD =
  /^(stop|stop_sequences|signature|logit_bias|guided_regex|guided_grammar|guided_whitespace_pattern|regex|grammar|grammar_triggers|bad_words|stop_token_ids|samplers|dry_sequence_breakers|encrypted_content|data|extra_content)$/;
const TEXT = "the words in question";

type Path = (string | number)[];

function* pathsOf(value: unknown, path: Path = []): Generator<Path> {
  yield path;
  if (typeof value !== "object" || value === null) return;
  for (const [name, field] of Object.entries(value)) yield* pathsOf(field, [...path, name]);
}

/** A copy with something else at a path; `undefined` as a key of the last step adds a field. */
function replaced(value: unknown, [name, ...rest]: Path, by: (old: unknown) => unknown): unknown {
  if (name === undefined) return by(value);
  if (Array.isArray(value))
    return value.map((own, i) => (String(i) === String(name) ? replaced(own, rest, by) : own));
  const fields = value as Record<string, unknown>;
  return { ...fields, [name]: replaced(fields[name], rest, by) };
}

const WAYS: ((old: unknown) => unknown)[] = [
  () => TEXT,
  () => [TEXT],
  () => ({ text: TEXT }),
  () => [{ type: "text", text: TEXT, content: TEXT }],
  () => ({ type: TEXT }),
  () => ({ [TEXT]: 1 }),
  (old) => (isPlain(old) ? { ...old, unknown: TEXT } : TEXT),
  (old) => (isPlain(old) ? { ...old, content: TEXT } : TEXT),
  (old) => (Array.isArray(old) ? [...old, TEXT] : TEXT),
];

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

test.each([
  ...Object.entries(BODIES),
  ["an agent", ["/chat/completions", AGENT]],
  ["an agent of old", ["/chat/completions", OLD_CALL]],
  ["items", ["/responses", ITEMS]],
  ["blocks", ["/v1/messages", BLOCKS]],
  ["an agent of Ollama's", ["/api/chat", OLLAMA_AGENT]],
  ["Ollama's generate", ["/api/generate", GENERATE]],
] as [string, [string, object]][])(
  "%s: wherever a text is put, the guard is shown it or the request is refused",
  (_, [endpoint, body]) => {
    const hidden: string[] = [];
    let shown = 0;
    for (const path of pathsOf(body)) {
      if (path.length === 0 || path.some((step) => UNREAD.test(String(step)))) continue;
      for (const way of WAYS) {
        const changed = JSON.parse(JSON.stringify(replaced(body, path, way)));
        let choices: { messages: object[]; prefill: string }[];
        try {
          ({ choices } = ENDPOINTS[endpoint].parse(changed, new FieldReader(policyOf())));
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          expect(["RequestError", "InputError"]).toContain((error as Error).constructor.name);
          continue;
        }
        shown++;
        if (!JSON.stringify(choices).includes(TEXT)) {
          hidden.push(`${path.join(".")} as ${JSON.stringify(way("x"))}`);
        }
      }
    }
    expect(hidden).toEqual([]);
    expect(shown).toBeGreaterThan(10);
  },
);
