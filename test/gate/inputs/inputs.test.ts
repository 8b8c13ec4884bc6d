import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { jsonlText } from "../../../src/gate/inputs/jsonl.js";
import { ollamaText } from "../../../src/gate/inputs/ollama.js";
import { sseText } from "../../../src/gate/inputs/sse.js";

type Reader = (chunks: AsyncIterable<string>) => AsyncGenerator<string>;

/** What a reader makes of an input, cut into pieces of every size from 1 to 5, and whole. */
async function read(reader: Reader, input: string): Promise<string[]> {
  let result: string[] = [];
  for (const size of [1, 2, 3, 5, input.length + 1]) {
    async function* chunks() {
      for (let at = 0; at < input.length; at += size) yield input.slice(at, at + size);
    }
    const texts: string[] = [];
    for await (const text of reader(chunks())) texts.push(text);
    if (size > 1) expect(texts).toEqual(result);
    result = texts;
  }
  return result;
}

const sse = (...events: unknown[]) =>
  events.map((event) => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`).join("");
const delta = (fields: object, index = 0) => ({ choices: [{ index, delta: fields }] });

describe("an API's event stream", () => {
  test.each<[string, string, string]>([
    [
      "chat completions",
      sse(
        delta({ role: "assistant" }),
        delta({ content: "Hel" }),
        delta({ content: "lo" }),
        { choices: [], usage: {} },
        "[DONE]",
      ),
      "Hello",
    ],
    ["completions", sse({ choices: [{ index: 0, text: "Hello" }] }, "[DONE]"), "Hello"],
    ["a [DONE] with a space", sse(delta({ content: "Hello" }), "[DONE] "), "Hello"],
    [
      "frames without data",
      sse(delta({ content: "Hel" }), "", " ", delta({ content: "lo" }), "[DONE]"),
      "Hello",
    ],
    [
      "a finish without [DONE]",
      sse(delta({ content: "Hello" }), { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }),
      "Hello",
    ],
    [
      "thinking in parts, as Mistral writes it",
      sse(
        delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "well" }] }] }),
        delta({ content: [{ type: "text", text: "Hello" }] }),
        "[DONE]",
      ),
      "<think>\nwell\n</think>\n\nHello",
    ],
    [
      "text in several fields",
      sse(
        {
          choices: [
            { index: 0, delta: { content: "Hel", refusal: "lo" }, message: { content: " the" }, text: "re" },
          ],
        },
        delta({ reasoning: "a", reasoning_content: "b" }),
        delta({ reasoning: "c", reasoning_content: "c" }),
        "[DONE]",
      ),
      "Hello there<think>\nbac",
    ],
    [
      "a response whose text comes at its end alone",
      sse(
        { type: "response.output_text.done", text: "Hello" },
        { type: "response.completed", response: { output: [{ content: [{ text: "Hello" }] }] } },
      ),
      "Hello",
    ],
    [
      "a response whose text comes with the whole alone",
      sse({ type: "response.completed", response: { output: [{ content: [{ text: "Hello" }] }] } }),
      "Hello",
    ],
    [
      "a text that Anthropic's block begins with",
      sse(
        { type: "content_block_start", content_block: { type: "text", text: "Hel" } },
        { type: "content_block_delta", delta: { type: "text_delta", text: "lo" } },
        { type: "message_stop" },
      ),
      "Hello",
    ],
    [
      "responses",
      `event: response.created\n${sse({ type: "response.created" })}event: x\n${sse({ type: "response.output_text.delta", delta: "Hello" }, { type: "response.output_text.done", text: "Hello" }, { type: "response.completed" })}`,
      "Hello",
    ],
    [
      "Anthropic's messages",
      sse(
        { type: "message_start", message: { content: [] } },
        { type: "content_block_delta", delta: { type: "text_delta", text: "Hello" } },
        { type: "message_stop" },
      ),
      "Hello",
    ],
    [
      "reasoning",
      sse(
        delta({ reasoning_content: "well" }),
        delta({ reasoning_content: "…" }),
        delta({ content: "Hello" }),
        "[DONE]",
      ),
      "<think>\nwell…\n</think>\n\nHello",
    ],
    [
      "comments and CRLF",
      ': hi\r\n\r\ndata: {"choices":[{"delta":{"content":"Grüße 👍"},"finish_reason":"stop"}]}\r\n\r\n',
      "Grüße 👍",
    ],
    [
      "a last event without its blank line",
      `${sse(delta({ content: "Hel" }))}data: {"choices":[{"delta":{"content":"lo"},"finish_reason":"stop"}]}`,
      "Hello",
    ],
    ["what comes after [DONE]", sse(delta({ content: "Hello" }), "[DONE]", "rubbish"), "Hello"],
  ])("%s", async (_, input, text) => {
    expect((await read(sseText, input)).join("")).toBe(text);
  });

  test.each<[string, string, RegExp]>([
    ["no JSON", sse(delta({ content: "a" }), "{broken"), /event 2 is not JSON/],
    ["no object", sse("1"), /event 1 is not a JSON object/],
    ["a second choice", sse(delta({ content: "a" }, 1)), /event 1 belongs to a second choice/],
    ["an error", sse({ error: { message: "overloaded" } }), /tells of an error: .*overloaded/],
    [
      "an error of responses",
      sse({ type: "error", message: "overloaded" }),
      /tells of an error: .*overloaded/,
    ],
    [
      "a failed response",
      sse({ type: "response.failed", response: { error: { message: "overloaded" } } }),
      /tells of an error: .*overloaded/,
    ],
    [
      "content in parts",
      sse(delta({ content: [{ type: "audio", data: "a" }] })),
      /content of event 1 is no text/,
    ],
    [
      "an API's error in place of a stream",
      '{"error":{"message":"bad key"}}',
      /tells of an error: "bad key"/,
    ],
    ["another API's", '{\n "message": "bad key" }', /tells of an error: "bad key"/],
    ["another text", "Bad gateway", /holds no event/],
    ["nothing", "", /holds no event/],
    [
      "an error beside choices",
      sse({ choices: [], error: { message: "overloaded" } }, "[DONE]"),
      /overloaded/,
    ],
    [
      "an error of a choice",
      sse({ choices: [{ error: { message: "overloaded" } }] }, "[DONE]"),
      /overloaded/,
    ],
    ["an error that is a text", sse({ error: "overloaded" }, "[DONE]"), /overloaded/],
    ["an error as an object", sse({ object: "error", message: "overloaded" }, "[DONE]"), /overloaded/],
    ["an event of that name", `event: error\n${sse({ message: "overloaded" })}`, /overloaded/],
    ["an event of that name in plain text", `event: error\n${sse("overloaded")}`, /overloaded/],
    ["a field of that name", 'error: {"message":"overloaded"}\n\ndata: [DONE]\n\n', /overloaded/],
    ["a stream that stops", sse(delta({ content: "a" })), /stopped before its answer was finished/],
    ["a response that stops", sse({ type: "response.output_text.delta", delta: "a" }), /stopped before/],
  ])("not %s", async (_, input, message) => {
    await expect(read(sseText, input)).rejects.toThrow(InputError);
    await expect(read(sseText, input)).rejects.toThrow(message);
  });
});

describe("JSON lines", () => {
  test("strings and objects with text", async () => {
    const input = '"a"\n\n{"text":"b"}\r\n{"content":"c","id":1}\n{"delta":"d"}\n{"token":"é"}';
    expect(await read(jsonlText, input)).toEqual(["a", "b", "c", "d", "é"]);
  });

  test("of several texts in a line none is left out, and none counted twice", async () => {
    const input = '{"text":"","content":"a"}\n{"text":"b","delta":"c","token":"b"}\n';
    expect(await read(jsonlText, input)).toEqual(["a", "bc"]);
  });

  test.each<[string, RegExp]>([
    ['"a"\n{"value": 1}', /Line 2 holds no text/],
    ["\n\nrubbish", /Line 3 is not JSON/],
    ["null", /Line 1 holds no text/],
  ])("not %.40j", async (input, message) => {
    await expect(read(jsonlText, input)).rejects.toThrow(message);
  });
});

test("a line without end is refused by name, before it is held", async () => {
  let given = 0;
  async function* endless() {
    for (; given < 1000; given++) yield "x".repeat(2 ** 18);
  }
  for (const reader of [jsonlText, ollamaText]) {
    given = 0;
    await expect(reader(endless()).next()).rejects.toMatchObject({ code: "LINE_TOO_LONG" });
    expect(given).toBeLessThan(100);
  }
});

describe("Ollama's stream", () => {
  test("chat, with thinking", async () => {
    const input = [
      { message: { role: "assistant", thinking: "hm" } },
      { message: { content: "Hel" } },
      { message: { content: "lo" } },
      { done: true },
    ];
    expect((await read(ollamaText, input.map((line) => `${JSON.stringify(line)}\n`).join(""))).join("")).toBe(
      "<think>\nhm\n</think>\n\nHello",
    );
  });

  test("generate", async () => {
    expect(
      await read(ollamaText, '{"response":"Hel"}\n{"response":"lo"}\n{"response":"","done":true}\n'),
    ).toEqual(["Hel", "lo"]);
  });

  test("both ways of saying it count", async () => {
    const line = { message: { thinking: "a", content: "b" }, thinking: "c", response: "d", done: true };
    expect(await read(ollamaText, JSON.stringify(line))).toEqual(["<think>\nac\n</think>\n\nbd"]);
  });

  test("one that stops is no answer", async () => {
    await expect(read(ollamaText, '{"response":"Hel"}\n')).rejects.toThrow(/stopped before/);
  });

  test("an error is an error", async () => {
    await expect(read(ollamaText, '{"error":"model not found"}\n')).rejects.toThrow(
      /line 1 tells of an error: "model not found"/,
    );
  });
});

test("a line without end is refused", async () => {
  async function* endless() {
    for (;;) yield "x".repeat(1 << 20);
  }
  for (const reader of [jsonlText, ollamaText]) {
    await expect(reader(endless()).next()).rejects.toMatchObject({ code: "LINE_TOO_LONG" });
  }
});
