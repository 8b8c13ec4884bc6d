import { FakeListChatModel } from "@langchain/core/utils/testing";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Chunk } from "../../src/gate/chunks.js";
import { ModeratedStream } from "../../src/gate/moderate.js";
import type { Source } from "../../src/gate/source.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { finish, MAJORS, text } from "../adapters/ai-sdk/majors.js";
import { type Script, scriptedUpstream, sse } from "../gateway/upstream.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";
import { policyOf, ScriptedStream } from "./scripted.js";

type Message = { role: "user"; content: string };
const messages: Message[] = [{ role: "user", content: "How do I bake bread?" }];
const options = { messages, policy: { action: "ignore" } } as const;
const BREAD = ["Mix flour, ", "water and salt. ", "Caf\u00e9 🍞"];

let guard: Guard;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let openai: OpenAI;
let ollama: Ollama;
const unhandled = vi.fn();
beforeAll(async () => {
  guard = await loadGuard({ cacheDir: MODEL_CACHE, maxStreams: 2, maxTokens: 512 });
  upstream = await scriptedUpstream();
  openai = new OpenAI({ baseURL: `${upstream.url}/v1`, apiKey: "none", maxRetries: 0 });
  ollama = new Ollama({ host: upstream.url });
});
afterAll(async () => {
  await guard.close();
  await upstream.close();
});
beforeEach(() => {
  process.on("unhandledRejection", unhandled);
});
afterEach(async () => {
  await new Promise(setImmediate);
  process.off("unhandledRejection", unhandled);
  expect(unhandled).not.toHaveBeenCalled();
  await idle(guard);
});

/** Its parameter says that text comes out for what the clients give. */
async function read(stream: AsyncIterable<string>): Promise<string> {
  let out = "";
  for await (const released of stream) out += released;
  return out;
}

const chat = (content: string) => ({
  choices: [{ index: 0, delta: { role: "assistant", content }, finish_reason: null }],
});
const line = (content: string, done: boolean) =>
  `${JSON.stringify({ model: "m", message: { role: "assistant", content }, done })}\n`;

function chats(...script: (string | number)[]): Script {
  return script.map((step) => (typeof step === "string" ? sse(chat(step)) : step));
}

describe("the stream of a client's call", () => {
  test("openai's chat completions", async () => {
    upstream.answerWith(() => ({ script: [...chats(...BREAD), sse("[DONE]")] }));
    const call = openai.chat.completions.create({ model: "m", messages, stream: true });
    expect(await read(guard.moderate(call, options))).toBe(BREAD.join(""));
  });

  describe("openai's helper, which runs by itself", () => {
    const whole = [
      ...BREAD.map((content) => sse({ ...chat(content), id: "c", model: "m", created: 1 })),
      sse({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }),
      sse("[DONE]"),
    ];
    const ask = () => openai.chat.completions.stream({ model: "m", messages });

    test("loses nothing of what it says before it is read", async () => {
      upstream.answerWith(() => ({ script: whole }));
      const helper = ask();
      const stream = guard.moderate(helper, options);
      await helper.done();
      expect(await read(stream)).toBe(BREAD.join(""));
    });

    test("is refused once it has ended", async () => {
      upstream.answerWith(() => ({ script: whole }));
      const helper = ask();
      await helper.done();
      expect(() => guard.moderate(helper, options)).toThrow(
        expect.objectContaining({ code: "SOURCE_INVALID" }),
      );
    });

    test("rejects where it fails between two reads", async () => {
      upstream.answerWith(() => ({ script: [...whole.slice(0, 2), "die"] }));
      const helper = ask();
      const stream = guard.moderate(helper, options);
      await helper.done().catch(() => {});
      await expect(read(stream)).rejects.toThrow();
      expect((await stream.done).end).toBe("failed");
    });
  });

  test("openai's completions", async () => {
    upstream.answerWith(() => ({
      script: [...BREAD.map((said) => sse({ choices: [{ index: 0, text: said }] })), sse("[DONE]")],
    }));
    const call = openai.completions.create({ model: "m", prompt: "Bread?", stream: true });
    expect(await read(guard.moderate(call, options))).toBe(BREAD.join(""));
  });

  test("openai's responses", async () => {
    upstream.answerWith(() => ({
      script: BREAD.map((delta) => sse({ type: "response.output_text.delta", delta })),
    }));
    const call = openai.responses.create({ model: "m", input: "Bread?", stream: true });
    expect(await read(guard.moderate(call, options))).toBe(BREAD.join(""));
  });

  test("ollama's chat", async () => {
    upstream.answerWith(() => ({
      type: "application/x-ndjson",
      script: [...BREAD.map((content) => line(content, false)), line("", true)],
    }));
    const call = ollama.chat({ model: "m", messages, stream: true });
    expect(await read(guard.moderate(call, options))).toBe(BREAD.join(""));
  });

  test("LangChain's", async () => {
    const model = new FakeListChatModel({ responses: [BREAD.join("")] });
    expect(await read(guard.moderate(model.stream("Bread?"), options))).toBe(BREAD.join(""));
  });

  test.each(MAJORS)("the AI SDK's, major $major: parts and chunks of UI messages", async ({ sdk, Mock }) => {
    const parts = [...text("0", ...BREAD), finish];
    const model = () =>
      new Mock({ doStream: async () => ({ stream: sdk.simulateReadableStream({ chunks: parts }) }) });
    const ask = () => sdk.streamText({ model: model(), prompt: "Bread?" });
    expect(await read(guard.moderate(ask().fullStream, options))).toBe(BREAD.join(""));
    expect(await read(guard.moderate(ask().textStream, options))).toBe(BREAD.join(""));
    expect(await read(guard.moderate(ask().toUIMessageStream(), options))).toBe(BREAD.join(""));
  });

  test("a function that calls is given a signal for it", async () => {
    upstream.answerWith(() => ({ script: [...chats(...BREAD), sse("[DONE]")] }));
    const stream = guard.moderate(
      (signal) => openai.chat.completions.create({ model: "m", messages, stream: true }, { signal }),
      options,
    );
    expect(await read(stream)).toBe(BREAD.join(""));
  });

  test("one whose call fails rejects with the client's own error, also where it failed long before", async () => {
    upstream.json({ error: { message: "no such model" } }, 404);
    const stream = guard.moderate(
      openai.chat.completions.create({ model: "m", messages, stream: true }),
      options,
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    await expect(read(stream)).rejects.toThrow(/no such model/);
    expect((await stream.done).end).toBe("failed");
  });

  test("one that is no stream says to ask for one", async () => {
    upstream.json({ choices: [{ index: 0, message: { content: "a" } }] });
    const whole: unknown = openai.chat.completions.create({ model: "m", messages });
    const stream = guard.moderate(whole as Promise<string[]>, options);
    await expect(read(stream)).rejects.toMatchObject({ code: "SOURCE_INVALID" });
  });
});

describe("a model that says nothing is stopped at once, where the prompt is flagged", () => {
  /** Flags the prompt once the model is asked. */
  async function blocked(call: () => Source<Chunk>) {
    upstream.answerWith(() => ({ script: [Number.POSITIVE_INFINITY] }));
    const number = upstream.asked.length;
    const promptAfter = vi.waitUntil(() => upstream.asked.length > number, { timeout: 20_000 });
    const judge = () => new ScriptedStream({ prompt: "Unsafe", promptAfter });
    const stream = new ModeratedStream(call(), judge, { policy: policyOf() });
    return { stream, asked: promptAfter.then(() => upstream.asked[number]) };
  }

  test.each<[string, () => Source<Chunk>]>([
    [
      "openai's chat completions",
      () => openai.chat.completions.create({ model: "m", messages, stream: true }),
    ],
    ["openai's helper", () => openai.chat.completions.stream({ model: "m", messages })],
    ["openai's responses", () => openai.responses.create({ model: "m", input: "Bread?", stream: true })],
    ["ollama's chat", () => ollama.chat({ model: "m", messages, stream: true })],
    ["a body of the Web's", () => fetch(upstream.url).then((response) => response.body as ReadableStream)],
  ])("%s", async (_, call) => {
    const { stream, asked } = await blocked(call);
    await expect(stream.next()).rejects.toMatchObject({ code: "MODERATION_VIOLATION" });
    expect(await (await asked).aborted).toBe(true);
  });

  test("also where it is left before anything was read", async () => {
    const { stream, asked } = await blocked(() =>
      openai.chat.completions.create({ model: "m", messages, stream: true }),
    );
    await asked;
    await stream.return();
    expect(await (await asked).aborted).toBe(true);
  });
});

test("chunks of no type are taken for text: what comes out is text", async () => {
  const untyped: unknown = BREAD;
  // biome-ignore lint/suspicious/noExplicitAny: as code without types has them
  expect(await read(guard.moderate(untyped as any[], options))).toBe(BREAD.join(""));
});
