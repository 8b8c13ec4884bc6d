import { AIMessageChunk, HumanMessageChunk } from "@langchain/core/messages";
import type { TextStreamPart, ToolSet, UIMessageChunk } from "ai";
import type { TextStreamPart as TextStreamPart7, UIMessageChunk as UIMessageChunk7 } from "ai-7";
import { describe, expect, test } from "vitest";
import { type Chunk, type ChunkOptions, ChunkReader } from "../../src/gate/chunks.js";
import type { StreamPart } from "../adapters/ai-sdk/majors.js";

async function read(chunks: readonly object[], options: ChunkOptions<Chunk> = {}): Promise<string> {
  let text = "";
  for await (const part of new ChunkReader(chunks as Chunk[], options)) {
    if (part.kind === "text") text += part.text;
  }
  return text;
}

const delta = (fields: object) => ({ id: "c", choices: [{ index: 0, delta: fields, finish_reason: null }] });
const block = (fields: object) => ({ type: "content_block_start", index: 0, content_block: fields });
const blockDelta = (fields: object) => ({ type: "content_block_delta", index: 0, delta: fields });
const ai = (fields: ConstructorParameters<typeof AIMessageChunk>[0]) => new AIMessageChunk(fields);

const REASONED: Record<string, object[]> = {
  "chat completions": [
    delta({ role: "assistant", content: "" }),
    delta({ reasoning_content: "well" }),
    delta({ content: "Hel" }),
    delta({ content: "lo" }),
    { id: "c", choices: [], usage: { total_tokens: 3 } },
  ],
  responses: [
    { type: "response.created", response: { output: [] } },
    { type: "response.output_item.added", item: { type: "reasoning", id: "r" } },
    { type: "response.reasoning_text.delta", item_id: "r", delta: "well" },
    { type: "response.output_item.added", item: { type: "message", id: "m" } },
    { type: "response.output_text.delta", item_id: "m", delta: "Hello" },
    { type: "response.output_text.done", item_id: "m", text: "Hello" },
    { type: "response.output_item.done", item: { type: "message", content: [{ text: "Hello" }] } },
    { type: "response.completed", response: { output: [{ content: [{ text: "Hello" }] }] } },
  ],
  "Anthropic's messages": [
    { type: "message_start", message: { content: [] } },
    block({ type: "thinking", thinking: "" }),
    blockDelta({ type: "thinking_delta", thinking: "well" }),
    blockDelta({ type: "signature_delta", signature: "c2ln" }),
    { type: "content_block_stop", index: 0 },
    block({ type: "text", text: "" }),
    blockDelta({ type: "text_delta", text: "Hello" }),
    { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: {} },
    { type: "message_stop" },
  ],
  "Ollama's chat": [
    { model: "m", message: { role: "assistant", content: "", thinking: "well" }, done: false },
    { model: "m", message: { role: "assistant", content: "Hello" }, done: false },
    { model: "m", message: { role: "assistant", content: "" }, done: true },
  ],
  "Ollama's generate": [
    { model: "m", response: "", thinking: "well", done: false },
    { model: "m", response: "Hello", done: true },
  ],
  "LangChain's chunks": [
    ai({ content: "", additional_kwargs: { reasoning_content: "well" } }),
    ai({ content: "Hello" }),
    ai({ content: "" }),
  ],
  "LangChain's chunks in parts": [
    ai({ content: [{ type: "thinking", thinking: "well" }] }),
    ai({ content: [{ type: "text", text: "Hello" }] }),
  ],
  "the AI SDK's parts": [
    { type: "start" },
    { type: "reasoning-start", id: "0" },
    { type: "reasoning-delta", id: "0", text: "well" },
    { type: "reasoning-end", id: "0" },
    { type: "text-delta", id: "1", text: "Hello" },
    { type: "finish", finishReason: "stop" },
  ],
  "chunks of the AI SDK's UI messages": [
    { type: "reasoning-delta", id: "0", delta: "well" },
    { type: "text-delta", id: "1", delta: "Hello" },
  ],
};

describe.each(Object.entries(REASONED))("of %s", (_, chunks) => {
  test("the text comes out", async () => {
    expect(await read(chunks)).toBe("Hello");
  });

  test("the reasoning too, where it is part of the text", async () => {
    expect(await read(chunks, { reasoning: true })).toBe("<think>\nwell\n</think>\n\nHello");
  });

  test("all of them are told of", async () => {
    const events: object[] = [];
    await read(chunks, { onEvent: (event) => events.push(event as object) });
    expect(events).toEqual(chunks);
  });
});

test("a response of two messages, with reasoning between them, is said once", async () => {
  const texts = [
    ["reasoning_text", "hm"],
    ["output_text", "One. "],
    ["reasoning_text", "hm"],
    ["output_text", "Two."],
  ];
  const deltas = texts.map(([of, text]) => ({ type: `response.${of}.delta`, delta: text }));
  const output = ["One. ", "Two."].map((text) => ({ type: "message", content: [{ text }] }));
  expect(await read([...deltas, { type: "response.completed", response: { output } }])).toBe("One. Two.");
});

describe("what is no text", () => {
  const call = { index: 0, id: "1", type: "function", function: { name: "f", arguments: "{}" } };
  test.each<[string, object, RegExp]>([
    ["a tool call", delta({ tool_calls: [call] }), /a tool call \(chunk 2\).*onEvent/],
    ["a function call", delta({ function_call: { name: "f" } }), /a tool call/],
    ["audio", delta({ audio: { data: "" } }), /audio/],
    [
      "an item that is a call",
      { type: "response.output_item.added", item: { type: "function_call" } },
      /a tool call/,
    ],
    [
      "an item of another type",
      { type: "response.output_item.added", item: { type: "computer_call" } },
      /a part of type computer_call/,
    ],
    ["speech", { type: "response.audio.delta", delta: "" }, /audio/],
    ["a block that is a call", block({ type: "tool_use", name: "f" }), /a tool call/],
    ["a block of another type", block({ type: "a b", name: "f" }), /a part of unknown type/],
    ["Ollama's call", { message: { content: "", tool_calls: [call] }, done: false }, /a tool call/],
    ["LangChain's call", ai({ content: "", tool_call_chunks: [{ name: "f", args: "{}" }] }), /a tool call/],
    ["LangChain's picture", ai({ content: [{ type: "image_url", image_url: "" }] }), /type image_url/],
    ["the AI SDK's call", { type: "tool-call", toolName: "f" }, /a tool call/],
    ["a file", { type: "file", url: "" }, /a file/],
    ["the application's data", { type: "data-weather", data: {} }, /the application's own/],
  ])("%s is an error, unless somebody takes it", async (_, chunk, message) => {
    const chunks = [delta({ content: "Hello" }), chunk];
    await expect(read(chunks)).rejects.toMatchObject({
      code: "CHUNK_NOT_TEXT",
      message: expect.stringMatching(message),
    });
    const taken: unknown[] = [];
    expect(await read(chunks, { onEvent: (event) => taken.push(event) })).toBe("Hello");
    expect(taken[1]).toBe(chunk);
  });

  test.each([
    { type: "response.output_item.added", item: { type: "web_search_call" } },
    block({ type: "server_tool_use", name: "web_search" }),
    block({ type: "web_search_tool_result", content: [] }),
    { type: "source", url: "" },
  ])("what a server does by itself on the way is left out: %j", async (chunk) => {
    expect(await read([chunk])).toBe("");
  });
});

describe("an error that a stream tells of", () => {
  test.each<[string, object]>([
    ["OpenAI's", { error: { message: "overloaded" } }],
    ["Anthropic's", { type: "error", error: { type: "overloaded_error", message: "overloaded" } }],
    ["the AI SDK's", { type: "error", error: new Error("overloaded") }],
    ["in a UI message", { type: "error", errorText: "overloaded" }],
    ["Ollama's", { error: "overloaded" }],
  ])("%s is thrown", async (_, chunk) => {
    await expect(read([chunk])).rejects.toMatchObject({
      code: "UPSTREAM_ERROR",
      message: expect.stringContaining("overloaded"),
    });
  });

  test("a stream that was aborted is no answer", async () => {
    await expect(read([{ type: "text-delta", text: "a" }, { type: "abort" }])).rejects.toMatchObject({
      code: "UPSTREAM_CUT",
    });
  });
});

test.each<[string, object | null]>([
  ["another API's", { candidates: [{ content: { parts: [{ text: "Hello" }] } }] }],
  ["an unknown type", { type: "telegram", text: "Hello" }],
  ["a person's message", new HumanMessageChunk("Hello")],
  ["LangGraph's pairs", [new AIMessageChunk("Hello"), {}]],
  ["a date", new Date()],
  ["nothing", null],
])("%s is refused, and told what is taken", async (_, chunk) => {
  await expect(read([chunk as object])).rejects.toMatchObject({
    code: "CHUNK_INVALID",
    message: expect.stringMatching(/openai, @anthropic-ai\/sdk, ollama, LangChain and the AI SDK/),
  });
});

test("a second choice is refused: it would be another text", async () => {
  await expect(read([{ choices: [{ index: 1, delta: { content: "a" } }] }])).rejects.toMatchObject({
    code: "EVENT_INVALID",
  });
});

// Types that an update of the SDK brings are errors of the compiler here.
type Types =
  | TextStreamPart<ToolSet>["type"]
  | TextStreamPart7<Record<string, never>>["type"]
  | Exclude<UIMessageChunk["type"] | UIMessageChunk7["type"], `data-${string}`>
  | StreamPart["type"];
const TYPES: Record<Types, "text" | "left out" | "beside" | "error"> = {
  "text-delta": "text",
  "text-start": "left out",
  "text-end": "left out",
  "reasoning-start": "left out",
  "reasoning-delta": "left out",
  "reasoning-end": "left out",
  "stream-start": "left out",
  "response-metadata": "left out",
  start: "left out",
  "start-step": "left out",
  "finish-step": "left out",
  finish: "left out",
  "message-metadata": "left out",
  source: "left out",
  "source-url": "left out",
  "source-document": "left out",
  raw: "left out",
  ping: "left out",
  "tool-input-start": "beside",
  "tool-input-delta": "beside",
  "tool-input-end": "beside",
  "tool-input-available": "beside",
  "tool-input-error": "beside",
  "tool-call": "beside",
  "tool-result": "beside",
  "tool-error": "beside",
  "tool-approval-request": "beside",
  "tool-approval-response": "beside",
  "tool-output-available": "beside",
  "tool-output-error": "beside",
  "tool-output-denied": "beside",
  file: "beside",
  "reasoning-file": "beside",
  custom: "beside",
  "steering-message": "beside",
  "reset-step": "beside",
  error: "error",
  abort: "error",
};

test.each(Object.entries(TYPES))("the AI SDK's %s is %s", async (type, what) => {
  const chunk = { type, id: "0", text: "Hello", error: "tool" };
  if (type !== "tool-error" && type !== "error") chunk.error = "";
  const told = await read([chunk]).catch(({ code }) => code);
  const expected = { text: "Hello", "left out": "", beside: "CHUNK_NOT_TEXT" } as Record<string, string>;
  if (what === "error") expect(told).toMatch(/^UPSTREAM_/);
  else expect(told).toBe(expected[what]);
});
