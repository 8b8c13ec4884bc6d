import { expect, test } from "vitest";
import { answered, CHAT, COMPLETIONS, DONE, RESPONSES } from "../answering.js";

/** Answers in the shapes that servers send; `leaves` are names of fields that stay behind. */
interface Fixture {
  endpoint?: string;
  whole?: object;
  streamed?: (object | string)[];
  leaves?: string[];
}

const usage = { prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 };
const details = {
  prompt_tokens_details: { cached_tokens: 4, audio_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 2 },
};
const calls = [
  { index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } },
];
const token = (text: string) => ({
  token: text,
  logprob: -0.1,
  bytes: [...Buffer.from(text)],
  top_logprobs: [{ token: text, logprob: -0.1, bytes: [...Buffer.from(text)] }],
});
const safe = { filtered: false, severity: "safe" };
const filters = {
  hate: safe,
  violence: safe,
  jailbreak: { filtered: false, detected: false },
  custom_blocklists: { filtered: false, details: [{ filtered: false, id: "b1" }] },
};
const scores = {
  flagged: false,
  categories: { "self-harm/intent": false },
  category_scores: { "self-harm/intent": 0.01 },
};
const moderated = {
  type: "moderation_results",
  model: "omni-moderation-latest",
  results: [
    { type: "moderation_result", ...scores, category_applied_input_types: { "self-harm/intent": ["text"] } },
  ],
};

function chat(head: object, ...choices: object[]): object[] {
  return choices.map((choice) => ({ ...head, choices: [{ index: 0, finish_reason: null, ...choice }] }));
}

const openai = {
  id: "chatcmpl-B1",
  object: "chat.completion.chunk",
  created: 1_741_569_952,
  model: "gpt-5-mini-2025-08-07",
  service_tier: "default",
  system_fingerprint: "fp_b376dfbbd5",
};
const azure = { ...openai, service_tier: undefined };
const vllm = { id: "chatcmpl-5f", object: "chat.completion.chunk", created: 1, model: "Qwen/Qwen3-8B" };
const llama = {
  id: "chatcmpl-x",
  object: "chat.completion.chunk",
  created: 1,
  model: "/models/qwen3-8b-q4_k_m.gguf",
  system_fingerprint: "b6000-abc",
};
const timings = {
  cache_n: 0,
  prompt_n: 9,
  prompt_ms: 12.5,
  prompt_per_token_ms: 1.4,
  predicted_n: 3,
  predicted_per_second: 80.1,
};
const ollama = {
  id: "chatcmpl-421",
  object: "chat.completion.chunk",
  created: 1,
  model: "qwen3:8b",
  system_fingerprint: "fp_ollama",
};
const router = {
  id: "gen-1741569952-abc",
  provider: "Google AI Studio",
  model: "google/gemini-3-flash",
  object: "chat.completion.chunk",
  created: 1,
};
const cost = {
  ...usage,
  ...details,
  cost: 0.00012,
  is_byok: false,
  cost_details: { upstream_inference_cost: 0.0001 },
};
const thinking = [{ type: "thinking", thinking: [{ type: "text", text: "A greeting." }], closed: true }];

const FIXTURES: Record<string, Fixture> = {
  "OpenAI, chat completions": {
    whole: {
      ...openai,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: "Hello there.",
            refusal: null,
            tool_calls: calls,
            annotations: [
              {
                type: "url_citation",
                url_citation: { url: "https://example.com/a", start_index: 0, end_index: 5 },
              },
            ],
          },
          logprobs: { content: [token("Hello"), token(" there"), token(".")], refusal: null },
          finish_reason: "stop",
        },
      ],
      usage: { ...usage, ...details },
      moderation: { input: moderated, output: moderated },
    },
    streamed: [
      ...chat(
        openai,
        { delta: { role: "assistant", content: "", refusal: null } },
        { delta: { content: "Hello" }, logprobs: { content: [token("Hello")] } },
        { delta: { content: " there." }, logprobs: { content: [token(" there.")] } },
        { delta: { tool_calls: calls } },
        { delta: {}, finish_reason: "tool_calls" },
      ),
      { ...openai, choices: [], moderation: { input: moderated, output: moderated } },
      { ...openai, choices: [], usage: { ...usage, ...details } },
      DONE,
    ],
  },
  "OpenAI, padding": {
    streamed: [
      ...chat(
        { ...openai, obfuscation: "x8Kd0" },
        { delta: { content: "Hello" } },
        { delta: {}, finish_reason: "stop" },
      ),
      DONE,
    ],
    leaves: ["obfuscation"],
  },
  "OpenAI, completions": {
    endpoint: COMPLETIONS,
    whole: {
      id: "cmpl-1",
      object: "text_completion",
      created: 1,
      model: "gpt-3.5-turbo-instruct",
      choices: [
        {
          index: 0,
          text: "Hello there.",
          finish_reason: "length",
          logprobs: {
            tokens: ["Hello", " there."],
            token_logprobs: [-0.1, -0.2],
            top_logprobs: [{ Hello: -0.1, Hi: -2 }, null],
            text_offset: [0, 5],
          },
        },
      ],
      usage,
    },
    streamed: [
      {
        id: "cmpl-1",
        object: "text_completion",
        choices: [{ index: 0, text: "Hello", logprobs: null, finish_reason: null }],
      },
      {
        id: "cmpl-1",
        object: "text_completion",
        choices: [{ index: 0, text: "", logprobs: null, finish_reason: "stop" }],
      },
      DONE,
    ],
  },
  "OpenAI, responses": {
    endpoint: RESPONSES,
    whole: {
      id: "resp_1",
      object: "response",
      created_at: 1_741_569_952,
      status: "completed",
      background: false,
      error: null,
      incomplete_details: null,
      instructions: "Be kind.",
      metadata: { order: "17 of May" },
      model: "gpt-5-mini",
      parallel_tool_calls: true,
      previous_response_id: null,
      reasoning: { effort: "low", summary: null },
      service_tier: "default",
      store: true,
      temperature: 1,
      text: { format: { type: "text" }, verbosity: "medium" },
      tool_choice: "auto",
      tools: [],
      truncation: "disabled",
      output: [
        {
          id: "rs_1",
          type: "reasoning",
          summary: [{ type: "summary_text", text: "A greeting." }],
          encrypted_content: "gAAAAABo+/8=",
          status: null,
        },
        {
          id: "ws_1",
          type: "web_search_call",
          status: "completed",
          action: { type: "search", query: "hello" },
        },
        {
          id: "fc_1",
          type: "function_call",
          status: "completed",
          call_id: "call_1",
          name: "weather",
          arguments: '{"city":"Oslo"}',
        },
        {
          id: "msg_1",
          type: "message",
          status: "completed",
          role: "assistant",
          content: [
            {
              type: "output_text",
              text: "Hello there.",
              annotations: [
                { type: "url_citation", url: "https://example.com/a", start_index: 0, end_index: 5 },
              ],
              logprobs: [token("Hello")],
            },
          ],
        },
      ],
      usage: {
        input_tokens: 9,
        input_tokens_details: { cached_tokens: 0 },
        output_tokens: 3,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 12,
      },
      moderation: {
        input: { type: "moderation_result", model: "omni-moderation-latest", ...scores },
        output: null,
      },
    },
  },
  Azure: {
    whole: {
      ...azure,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello there." },
          finish_reason: "stop",
          content_filter_results: filters,
        },
      ],
      prompt_filter_results: [{ prompt_index: 0, content_filter_results: filters }],
      usage,
    },
    streamed: [
      {
        id: "",
        object: "",
        created: 0,
        model: "",
        choices: [],
        prompt_filter_results: [{ prompt_index: 0, content_filter_results: filters }],
      },
      ...chat(
        azure,
        { delta: { role: "assistant", content: "" } },
        { delta: { content: "Hello there." } },
        { delta: {}, finish_reason: "stop" },
      ),
      {
        id: "",
        object: "",
        created: 0,
        model: "",
        choices: [
          {
            index: 0,
            finish_reason: null,
            content_filter_results: filters,
            content_filter_offsets: { check_offset: 44, start_offset: 44, end_offset: 56 },
          },
        ],
      },
      DONE,
    ],
  },
  vLLM: {
    whole: {
      ...vllm,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: "Hello there.",
            refusal: null,
            annotations: null,
            audio: null,
            function_call: null,
            tool_calls: [],
            reasoning: "A greeting.",
            reasoning_content: "A greeting.",
          },
          logprobs: null,
          finish_reason: "stop",
          stop_reason: 151_643,
          token_ids: null,
        },
      ],
      service_tier: null,
      system_fingerprint: null,
      usage: { ...usage, prompt_tokens_details: null },
      prompt_logprobs: null,
      prompt_token_ids: null,
      kv_transfer_params: null,
    },
    streamed: [
      ...chat(
        vllm,
        { delta: { role: "assistant", content: "" }, logprobs: null },
        { delta: { reasoning_content: "A greeting." }, logprobs: null, token_ids: null },
        { delta: { content: "Hello there." }, logprobs: null, token_ids: null },
        {
          delta: { content: "" },
          logprobs: null,
          finish_reason: "stop",
          stop_reason: "###",
          token_ids: null,
        },
      ),
      { ...vllm, choices: [], usage },
      DONE,
    ],
  },
  "vLLM, token ids": {
    whole: {
      ...vllm,
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello." },
          finish_reason: "stop",
          token_ids: [9707, 13],
        },
      ],
      prompt_token_ids: [1, 2],
      prompt_logprobs: [null, { 9707: { logprob: -1, rank: 1, decoded_token: "Hello" } }],
    },
    leaves: ["token_ids", "prompt_token_ids", "prompt_logprobs"],
  },
  "llama.cpp": {
    whole: {
      ...llama,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: { role: "assistant", reasoning_content: "A greeting.", content: "Hello there." },
          finish_reason: "stop",
          logprobs: { content: [{ id: 9707, ...token("Hello") }] },
        },
      ],
      usage,
      timings,
    },
    streamed: [
      {
        ...llama,
        choices: [{ index: 0, delta: { role: "assistant", content: null }, finish_reason: null }],
        prompt_progress: { total: 9, cache: 0, processed: 9, time_ms: 12 },
      },
      ...chat(llama, { delta: { content: "Hello there." } }),
      ...chat(llama, { delta: {}, finish_reason: "stop" }),
      { ...llama, choices: [], usage, timings },
      DONE,
    ],
  },
  "llama.cpp, verbose": {
    whole: {
      ...llama,
      choices: [{ index: 0, message: { role: "assistant", content: "Hello." }, finish_reason: "stop" }],
      __verbose: { content: "Hello.", tokens: [9707, 13], prompt: "Hi" },
      timings,
    },
    leaves: ["__verbose"],
  },
  Ollama: {
    whole: {
      ...ollama,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello there.", reasoning: "A greeting." },
          finish_reason: "stop",
        },
      ],
      usage,
    },
    streamed: [
      ...chat(
        ollama,
        { delta: { role: "assistant", content: "", reasoning: "A greeting." } },
        { delta: { role: "assistant", content: "Hello there." } },
        { delta: { role: "assistant", content: "" }, finish_reason: "stop" },
      ),
      { ...ollama, choices: [], usage },
      DONE,
    ],
  },
  OpenRouter: {
    whole: {
      ...router,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          logprobs: null,
          finish_reason: "stop",
          native_finish_reason: "STOP",
          message: {
            role: "assistant",
            content: "Hello there.",
            refusal: null,
            reasoning: "A greeting.",
            reasoning_details: [
              { type: "reasoning.text", text: "A greeting.", format: "google-gemini-v1", index: 0 },
              {
                type: "reasoning.encrypted",
                data: "CiQB+/8=",
                id: "t1",
                format: "google-gemini-v1",
                index: 1,
              },
            ],
          },
        },
      ],
      usage: cost,
    },
    streamed: [
      ": OPENROUTER PROCESSING",
      ...chat(
        router,
        {
          delta: {
            role: "assistant",
            content: "",
            reasoning: "A greeting.",
            reasoning_details: [{ type: "reasoning.text", text: "A greeting.", format: "unknown", index: 0 }],
          },
        },
        { delta: { role: "assistant", content: "Hello there." } },
        {
          delta: { role: "assistant", content: "" },
          finish_reason: "stop",
          native_finish_reason: "STOP",
          logprobs: null,
        },
      ),
      {
        ...router,
        choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }],
        usage: cost,
      },
      DONE,
    ],
  },
  Mistral: {
    whole: {
      id: "1",
      object: "chat.completion",
      model: "magistral-medium-latest",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: [...thinking, { type: "text", text: "Hello there." }] },
          finish_reason: "stop",
        },
      ],
      usage,
    },
  },
  "Groq, DeepSeek, Cerebras": {
    whole: {
      id: "1",
      object: "chat.completion",
      model: "m",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello there.", reasoning: "A greeting." },
          finish_reason: "stop",
        },
      ],
      usage: { ...usage, queue_time: 0.02, prompt_cache_hit_tokens: 1, prompt_cache_miss_tokens: 8 },
      usage_breakdown: { models: null },
      x_groq: { id: "req_01", usage },
      time_info: { queue_time: 0.01, total_time: 0.2 },
    },
  },
  "Perplexity, xAI": {
    whole: {
      id: "1",
      object: "chat.completion",
      model: "sonar",
      citations: ["https://example.com/a?b=c"],
      search_results: [{ url: "https://example.com/a", date: "2026-01-02", title: "A page" }],
      choices: [{ index: 0, message: { role: "assistant", content: "Hello there." }, finish_reason: "stop" }],
      usage: { ...usage, search_context_size: "low" },
    },
    leaves: ["title", "search_context_size"],
  },
};

const WHOLE = Object.entries(FIXTURES).filter(([, { whole }]) => whole);
const STREAMED = Object.entries(FIXTURES).filter(([, { streamed }]) => streamed);
const request = { instructions: "Be kind.", metadata: { order: "17 of May" }, tools: [] };

test.each(WHOLE)(
  "%s: a whole answer arrives as it was sent",
  async (_, { endpoint = CHAT, whole, leaves = [] }) => {
    const { json, status } = await answered(endpoint, whole as object, { request });
    expect(status).toBe(200);
    expect(json).toEqual(without(whole, leaves));
  },
);

test.each(STREAMED)(
  "%s: a stream arrives with its text and all that it tells beside",
  async (_, { endpoint = CHAT, streamed = [], leaves = [] }) => {
    const { events, failure, text } = await answered(endpoint, streamed as object[], { request });
    const sent = without(
      streamed.filter((event) => typeof event === "object"),
      leaves,
    ) as object[];
    expect(failure).toBeNull();
    expect(text.trimEnd().endsWith("data: [DONE]")).toBe(true);
    expect(said(events)).toEqual(said(sent));
    const arrived = new Set(events.flatMap((event) => told(event)));
    for (const own of sent.flatMap((event) => told(event))) expect(arrived).toContain(own);
  },
);

test("Azure: a blocked prompt keeps its code and the verdict of the filter", async () => {
  const error = {
    message: "The response was filtered.",
    type: null,
    param: "prompt",
    code: "content_filter",
    status: 400,
    innererror: {
      code: "ResponsibleAIPolicyViolation",
      content_filter_result: { hate: { filtered: true, severity: "high" } },
    },
  };
  const { json, status } = await answered(CHAT, { error }, { status: 400 });
  expect(status).toBe(400);
  expect(json).toEqual({ error });
});

/** A value without the fields of these names. */
function without(value: unknown, names: string[]): unknown {
  return JSON.parse(JSON.stringify(value), (name, own) => (names.includes(name) ? undefined : own));
}

const TEXTS = ["content", "reasoning", "reasoning_content", "text"];

/** What a stream says, by field. */
function said(events: object[]): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const event of events) {
    for (const { delta, ...choice } of (event as { choices: { delta?: object }[] }).choices) {
      for (const [name, own] of Object.entries({ ...choice, ...delta })) {
        if (TEXTS.includes(name) && typeof own === "string") texts[name] = (texts[name] ?? "") + own;
      }
    }
  }
  return texts;
}

/** What a value tells beside the text: paths and values. */
function told(value: unknown, path = ""): string[] {
  if (value === null || value === undefined || value === "") return [];
  if (typeof value !== "object")
    return TEXTS.includes(path.split(".").at(-1) ?? "") ? [] : [`${path}=${value}`];
  return Object.entries(value).flatMap(([name, own]) => told(own, `${path}.${name}`));
}
