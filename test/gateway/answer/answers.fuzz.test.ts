import fc from "fast-check";
import { expect, test } from "vitest";
import type { Mode } from "../../../src/gate/gate-options.js";
import { type Change, changesOf, type Fields, type Json } from "../../support/json-changes.js";
import { answered, DONE } from "../answering.js";

/** Cases a kind of answer; FUZZ_RUNS asks for more. */
const numRuns = Number(process.env.FUZZ_RUNS ?? 150);
const timeout = Math.max(240_000, numRuns * 100);
/** Longest that an answer may take. Milliseconds. */
const LONGEST = 30_000;

/** The scripted guard flags its second word. */
const FLAGGED = "never BADSECRET may anybody read this here";
const IDS = [66, 65, 68, 83, 69, 67, 82, 69, 84];

/** What is put into an answer: the flagged text in some form. */
const PAYLOADS: Record<string, Json> = {
  text: FLAGGED,
  list: [FLAGGED],
  words: FLAGGED.split(" "),
  part: { type: "text", text: FLAGGED },
  parts: [{ type: "output_text", text: FLAGGED }],
  thinking: [{ type: "thinking", thinking: [{ type: "text", text: FLAGGED }] }],
  unknownPart: [{ type: "speech", transcript: FLAGGED }],
  nested: { a: { b: [{ c: FLAGGED }] } },
  key: { [FLAGGED]: 1 },
  message: { role: "assistant", content: FLAGGED },
  choice: [{ index: 0, message: { content: FLAGGED }, text: FLAGGED, delta: { content: FLAGGED } }],
  item: [{ type: "message", id: "m", role: "assistant", content: [{ type: "output_text", text: FLAGGED }] }],
  logprobs: {
    content: [{ token: FLAGGED, logprob: -1, bytes: IDS, top_logprobs: [{ token: FLAGGED, logprob: -1 }] }],
  },
  columns: { tokens: [FLAGGED], token_logprobs: [-1], top_logprobs: [{ [FLAGGED]: -1 }], text_offset: [0] },
  ids: IDS,
  nestedIds: { ids: [{ ids: IDS }] },
  error: { error: { message: FLAGGED } },
  number: 5,
  yes: true,
  none: null,
  empty: {},
};

/** Names to put it under: of every level of every endpoint, and some of no one's. */
const NAMES = [
  ...["id", "object", "model", "created", "choices", "index", "message", "delta", "text", "content", "role"],
  ...[
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "annotations",
    "audio",
    "images",
    "tool_calls",
  ],
  ...[
    "finish_reason",
    "stop_reason",
    "native_finish_reason",
    "logprobs",
    "token_ids",
    "prompt_logprobs",
    "usage",
  ],
  ...[
    "timings",
    "provider",
    "system_fingerprint",
    "service_tier",
    "moderation",
    "qwen3guard",
    "metadata",
    "citations",
  ],
  ...[
    "prompt_filter_results",
    "content_filter_results",
    "content_filter_offsets",
    "x_groq",
    "__verbose",
    "__proto__",
  ],
  ...[
    "output",
    "output_text",
    "item",
    "part",
    "response",
    "type",
    "status",
    "incomplete_details",
    "instructions",
  ],
  ...[
    "summary",
    "encrypted_content",
    "annotation",
    "transcript",
    "obfuscation",
    "results",
    "outputs",
    "tools",
  ],
  ...["error", "detail", "thinking", "messages", "data", "whatever", FLAGGED],
  ...[
    "content_block",
    "signature",
    "citations",
    "stop_details",
    "stop_sequence",
    "container",
    "usage",
    "tool_use_id",
  ],
  ...["done", "done_reason", "context", "created_at", "remote_model", "tool_name", "image"],
];

const changes = changesOf(NAMES, PAYLOADS, { furthest: 60, most: 4 });

const base = { id: "a", model: "m", created: 1 };
const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
const call = { index: 0, id: "t", type: "function", function: { name: "f", arguments: "{}" } };
const item = (text: string) => ({
  id: "m",
  type: "message",
  role: "assistant",
  status: "completed",
  content: [{ type: "output_text", text, annotations: [] }],
});
const response = { ...base, object: "response", status: "in_progress", output: [] };

const blocks = {
  thinking: { type: "thinking", thinking: "Hm.", signature: "c2ln" },
  text: { type: "text", text: "Hello there.", citations: [{ type: "char_location", cited_text: "t" }] },
  call: { type: "tool_use", id: "t", name: "f", input: "{}" },
  found: {
    type: "web_search_tool_result",
    tool_use_id: "t",
    content: [
      { type: "web_search_result", url: "https://example.com", title: "t", encrypted_content: "eA==" },
    ],
  },
};
const claude = {
  id: "a",
  type: "message",
  role: "assistant",
  model: "m",
  content: [],
  stop_reason: null,
  stop_sequence: null,
  usage: { input_tokens: 1, output_tokens: 2 },
};
const line = { model: "m", created_at: "2026-11-26T10:00:00Z", done: false };
const done = { ...line, done: true, done_reason: "stop", eval_count: 2 };
const ollamaMessage = { role: "assistant", thinking: "Hm.", content: "Hello there.", tool_calls: [call] };

const WHOLE: Record<string, () => Fields> = {
  "/chat/completions": () => ({
    ...base,
    object: "chat.completion",
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          reasoning: "Hm.",
          content: "Hello there.",
          tool_calls: [call],
          reasoning_details: [{ type: "reasoning.text", text: "Hm." }],
          annotations: [{ type: "url_citation", url_citation: { url: "https://example.com", title: "t" } }],
        },
        logprobs: { content: [{ token: "Hello", logprob: -1, bytes: null, top_logprobs: [] }] },
        finish_reason: "stop",
      },
    ],
    usage,
  }),
  "/completions": () => ({
    ...base,
    object: "text_completion",
    choices: [{ index: 0, text: "Hello there.", logprobs: null, finish_reason: "stop" }],
    usage,
  }),
  "/responses": () => ({
    ...response,
    status: "completed",
    output: [
      { id: "r", type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] },
      item("Hello there."),
    ],
    usage,
  }),
};

Object.assign(WHOLE, {
  "/v1/messages": () => ({ ...claude, content: Object.values(blocks), stop_reason: "end_turn" }),
  "/api/chat": () => ({ ...done, message: ollamaMessage }),
  "/api/generate": () => ({ ...done, response: "Hello there.", thinking: "Hm.", context: [1] }),
});

const chunk = (choice: Fields) => ({ ...base, choices: [{ index: 0, finish_reason: null, ...choice }] });
const ofItem = { item_id: "m", output_index: 0, content_index: 0 };
const STREAMED: Record<string, () => object[]> = {
  "/chat/completions": () => [
    chunk({ delta: { role: "assistant", content: "" } }),
    chunk({ delta: { content: "Hello" }, logprobs: { content: [{ token: "Hello", logprob: -1 }] } }),
    chunk({ delta: { content: " there." } }),
    chunk({ delta: { tool_calls: [call] } }),
    chunk({ delta: {}, finish_reason: "stop" }),
    { ...base, choices: [], usage },
  ],
  "/completions": () => [
    chunk({ text: "Hello", logprobs: { tokens: ["Hello"], token_logprobs: [-1] } }),
    chunk({ text: " there." }),
    chunk({ text: "", finish_reason: "stop" }),
    { ...base, choices: [], usage },
  ],
  "/responses": () => [
    { type: "response.created", response },
    { type: "response.output_item.added", output_index: 0, item: { ...item(""), content: [] } },
    {
      type: "response.content_part.added",
      ...ofItem,
      part: { type: "output_text", text: "", annotations: [] },
    },
    { type: "response.output_text.delta", ...ofItem, delta: "Hello" },
    { type: "response.output_text.delta", ...ofItem, delta: " there." },
    { type: "response.output_text.done", ...ofItem, text: "Hello there." },
    { type: "response.output_item.done", output_index: 0, item: item("Hello there.") },
    {
      type: "response.completed",
      response: { ...response, status: "completed", output: [item("Hello there.")] },
    },
  ],
};

Object.assign(STREAMED, {
  "/v1/messages": () => [
    { type: "message_start", message: claude },
    { type: "content_block_start", index: 0, content_block: { ...blocks.thinking, thinking: "" } },
    { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "Hm." } },
    { type: "content_block_delta", index: 0, delta: { type: "signature_delta", signature: "c2ln" } },
    { type: "content_block_stop", index: 0 },
    { type: "content_block_start", index: 1, content_block: { type: "text", text: "" } },
    { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "Hello" } },
    { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: " there." } },
    {
      type: "content_block_delta",
      index: 1,
      delta: { type: "citations_delta", citation: blocks.text.citations[0] },
    },
    { type: "content_block_stop", index: 1 },
    { type: "content_block_start", index: 2, content_block: blocks.found },
    { type: "content_block_stop", index: 2 },
    {
      type: "message_delta",
      delta: { stop_reason: "end_turn", stop_sequence: null },
      usage: { output_tokens: 2 },
    },
    { type: "message_stop" },
  ],
  "/api/chat": () => [
    { ...line, message: { role: "assistant", content: "", thinking: "Hm." } },
    {
      ...line,
      message: { role: "assistant", content: "Hello" },
      logprobs: [{ token: "Hello", logprob: -1 }],
    },
    { ...line, message: { role: "assistant", content: " there." } },
    { ...line, message: { role: "assistant", content: "", tool_calls: [call] } },
    { ...done, message: { role: "assistant", content: "" } },
  ],
  "/api/generate": () => [
    { ...line, response: "", thinking: "Hm." },
    { ...line, response: "Hello" },
    { ...line, response: " there." },
    { ...done, response: "", context: [1] },
  ],
});

/** Objects and lists of a value, itself first; what a tool is called with passes, and is left alone. */
function nodesOf(value: Json): (Json[] | Fields)[] {
  if (typeof value !== "object" || value === null) return [];
  const inside = Array.isArray(value) ? value : Object.values(value);
  return [value, ...inside.flatMap(nodesOf)].filter((node) => !("arguments" in node || "input" in node));
}

function changed<T extends Json>(answer: T, changes: Change[]): T {
  const copy = structuredClone(answer);
  for (const { at, name, payload, replaces } of changes) {
    const nodes = nodesOf(copy);
    const node = nodes[at % nodes.length];
    const value = structuredClone(PAYLOADS[payload]);
    if (Array.isArray(node)) {
      if (replaces) node.splice(0, 1, value);
      else node.push(value);
    } else if (replaces && Object.keys(node).length > 0) {
      const names = Object.keys(node);
      node[names[at % names.length]] = value;
    } else Object.defineProperty(node, name, { value, enumerable: true, configurable: true, writable: true });
  }
  return copy;
}

/** What a client sees of an answer, or the error that takes its place: one that has a name, and in time. */
async function seen(
  endpoint: string,
  answer: string | object | object[],
  { status = 200, mode = "hold-back" }: { status?: number; mode?: Mode } = {},
): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("The answer hangs.")), LONGEST);
  });
  const type = typeof answer === "string" ? "text/event-stream" : undefined;
  const options = { policy: { debounce: 1 }, status, mode, type };
  const { text, headers, error } = await Promise.race([answered(endpoint, answer, options), late]).finally(
    () => clearTimeout(timer),
  );
  if (error) expect(error.status, String(error.cause)).toBe(502);
  expect(text).not.toContain("internal_error");
  return JSON.stringify([...headers]) + text;
}

function expectNothingOf(seen: string): void {
  expect(seen).not.toContain("BADSECRET");
  expect(seen.replace(/\s/g, "")).not.toContain(IDS.slice(0, 3).join(","));
}

test.each(Object.keys(WHOLE))(
  "%s: a flagged text anywhere in a whole answer, and its ids, never reach the client",
  async (endpoint) => {
    await fc.assert(
      fc.asyncProperty(changes, async (list) => {
        expectNothingOf(await seen(endpoint, changed(WHOLE[endpoint](), list)));
      }),
      { numRuns },
    );
  },
  timeout,
);

test.each(Object.keys(STREAMED))(
  "%s: a flagged text anywhere in an event stream, and its ids, never reach the client",
  async (endpoint) => {
    await fc.assert(
      fc.asyncProperty(changes, async (list) => {
        const events = changed(STREAMED[endpoint]() as Json[], list);
        expectNothingOf(await seen(endpoint, [...events, DONE] as object[]));
      }),
      { numRuns },
    );
  },
  timeout,
);

/** Under these a single word passes unread. */
const WORDS = [
  ...[
    "id",
    "object",
    "model",
    "type",
    "status",
    "provider",
    "system_fingerprint",
    "service_tier",
    "signature",
  ],
  ...["done_reason", "created_at", "remote_model", "tool_name", "tool_use_id", "encrypted_content"],
];
const REASONS = ["finish_reason", "stop_reason", "native_finish_reason"];

test.each(Object.keys(STREAMED))(
  "%s: nor does one whose words come one an event",
  async (endpoint) => {
    const names = NAMES.filter((name) => ![...WORDS, ...REASONS].includes(name));
    const word = fc.record({ at: fc.nat(60), name: fc.constantFrom(...names) });
    await fc.assert(
      fc.asyncProperty(word, async ({ at, name }) => {
        const events = FLAGGED.split(" ").map((said, i) => {
          const all = STREAMED[endpoint]();
          const event = structuredClone(all[at % all.length]) as Fields;
          const nodes = nodesOf(event).filter((node) => !Array.isArray(node));
          Object.assign(nodes[at % nodes.length], { [name]: i % 2 === 0 ? said : [said] });
          return event;
        });
        expectNothingOf(await seen(endpoint, [...events, DONE] as object[]));
      }),
      { numRuns },
    );
  },
  timeout,
);

test.each(Object.keys(WHOLE))(
  "%s: a flagged text anywhere in a refusal never reaches the client",
  async (endpoint) => {
    const error = { error: { message: "No.", type: "server_error", code: null, param: null } };
    await fc.assert(
      fc.asyncProperty(changes, fc.constantFrom(400, 401, 429, 500, 599), async (list, status) => {
        expectNothingOf(await seen(endpoint, changed(error as Fields, list), { status }));
      }),
      { numRuns },
    );
  },
  timeout,
);

test(
  "an event stream of bytes at random ends, and in no unnamed error",
  async () => {
    const line = fc.oneof(
      fc.constantFrom(
        "data:",
        "data: [DONE] ",
        "error: {}",
        "event: error",
        ": ping",
        "",
        "id: 1",
        "data: {}",
      ),
      fc.json().map((json) => `data: ${json}`),
      fc.string(),
    );
    const ends = fc.constantFrom(...Object.keys(WHOLE));
    const modes = fc.constantFrom<Mode>("hold-back", "stream-first");
    await fc.assert(
      fc.asyncProperty(fc.array(line), ends, modes, async (lines, endpoint, mode) => {
        await seen(endpoint, lines.join("\n"), { mode });
      }),
      { numRuns },
    );
  },
  timeout,
);
