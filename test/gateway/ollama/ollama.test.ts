import { Ollama } from "ollama";
import { describe, expect, test } from "vitest";
import type { ProxyOptions } from "../../../src/gateway/proxy.js";
import { deferred } from "../../../src/moderation/deferred.js";
import { serving } from "../serving.js";

const proxied = serving();
const messages = [{ role: "user", content: "Hi there" }];
const head = { model: "qwen3:8b", created_at: "2026-11-26T10:00:00.123456Z" };
const chat = (fields: object) => ({
  ...head,
  message: { role: "assistant", content: "", ...fields },
  done: false,
});
const figures = {
  total_duration: 9,
  load_duration: 1,
  prompt_eval_count: 5,
  eval_count: 7,
  eval_duration: 4,
};
const chatEnd = { ...chat({}), done: true, done_reason: "stop", ...figures };
const generated = (response: string, thinking?: string) => ({
  ...head,
  response,
  ...(thinking !== undefined && { thinking }),
  done: false,
});
const generateEnd = { ...generated(""), done: true, done_reason: "stop", context: [1, 2, 3], ...figures };

function streams(...lines: (object | number | "die" | Promise<void>)[]) {
  proxied.upstream.answerWith(() => ({
    type: "application/x-ndjson",
    script: lines.map((line) =>
      typeof line === "object" && !(line instanceof Promise) ? `${JSON.stringify(line)}\n` : line,
    ),
  }));
}

async function start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof proxied.start>[1] = {}) {
  const started = await proxied.start(options, script);
  return { ...started, client: new Ollama({ host: started.url }) };
}

async function read<T>(stream: AsyncIterable<T>): Promise<{ lines: T[]; error: unknown }> {
  const lines: T[] = [];
  try {
    for await (const line of stream) lines.push(line);
  } catch (error) {
    return { lines, error };
  }
  return { lines, error: null };
}

describe("chat, streaming", () => {
  const ask = { model: "qwen3:8b", messages, stream: true as const };

  test("thinking, text, a tool's call and the figures come out whole", async () => {
    const calls = [{ function: { name: "weather", arguments: { city: "Oslo" } } }];
    streams(
      chat({ thinking: "A greet" }),
      chat({ thinking: "ing." }),
      ...["Hel", "lo, all", " is well."].map((content) => chat({ content })),
      chat({ tool_calls: calls }),
      chatEnd,
    );
    const { client } = await start();
    const { lines, error } = await read(await client.chat(ask));
    expect(error).toBeNull();
    expect(lines.map(({ message }) => message.thinking ?? "").join("")).toBe("A greeting.");
    expect(lines.map(({ message }) => message.content).join("")).toBe("Hello, all is well.");
    expect(lines.flatMap(({ message }) => message.tool_calls ?? [])).toEqual(calls);
    expect(lines.at(-1)).toEqual(chatEnd);
    expect(lines.every(({ model }) => model === "qwen3:8b")).toBe(true);
    expect(proxied.upstream.asked[0].path).toBe("/api/chat");
    expect(await proxied.logged()).toMatchObject({ end: "passed", endpoint: "/api/chat", stream: true });
  });

  test.each(["hold-back", "stream-first"] as const)(
    "%s: a flagged one ends with done, and the model is stopped",
    async (mode) => {
      streams(
        ...["so ", "far ", "BAD ", "BAD ", "more "].map((content) => chat({ content })),
        Number.POSITIVE_INFINITY,
      );
      const { client } = await start({ mode });
      const { lines, error } = await read(await client.chat(ask));
      expect(error).toBeNull();
      const said = lines.map(({ message }) => message.content).join("");
      if (mode === "hold-back") expect(said).toBe("so far");
      expect(lines.at(-1)).toMatchObject({
        done: true,
        done_reason: "content_filter",
        qwen3guard: { category: "Violent" },
      });
      expect(await proxied.upstream.asked[0].aborted).toBe(true);
      expect(await proxied.logged()).toMatchObject({ end: "flagged" });
    },
  );

  test("flagged thinking never reaches the client, nor does the text in the same line", async () => {
    streams(chat({ thinking: "I BAD BAD plan", content: "Fine." }), chatEnd);
    const { client } = await start();
    const { lines } = await read(await client.chat(ask));
    expect(JSON.stringify(lines)).not.toMatch(/BAD|Fine/);
  });

  test("an error in it is told as one", async () => {
    streams(chat({ content: "Hello there " }), { error: "out of memory" });
    const { client } = await start();
    const { lines, error } = await read(await client.chat(ask));
    expect(lines).not.toHaveLength(0);
    expect(String(error)).toContain("out of memory");
    expect(await proxied.logged()).toMatchObject({ end: "failed", error: { code: "upstream_error" } });
  });

  test.each([["die" as const], []])("one that ends before it is done is an error", async (...end) => {
    streams(chat({ content: "Hello there " }), ...end);
    const { client } = await start();
    const { error } = await read(await client.chat(ask));
    expect(String(error)).toMatch(/broke off|ended before/);
  });

  test("lines that are no JSON, or do not end, are an error", async () => {
    proxied.upstream.answerWith(() => ({ type: "application/x-ndjson", script: ["{no\n"] }));
    const { client } = await start();
    const { error } = await read(await client.chat(ask));
    expect(String(error)).toContain("not JSON");
  });

  test("lines without text keep it open while nothing else is sent", async () => {
    const kept = deferred<void>();
    streams(chat({ content: "Hello" }), kept.promise, chatEnd);
    const { client } = await start({ keepAlive: 0.02 });
    const lines: string[] = [];
    for await (const { message } of await client.chat(ask)) {
      if (lines.push(message.content) > 3) kept.resolve();
    }
    expect(lines.join("")).toBe("Hello");
  });

  test("the replacement comes as text before the end", async () => {
    streams(chat({ content: "so far BAD BAD" }), chatEnd);
    const { client } = await start({ replacement: " Sorry." });
    const { lines } = await read(await client.chat(ask));
    expect(lines.map(({ message }) => message.content).join("")).toBe("so far Sorry.");
    expect(lines.at(-1)?.done_reason).toBe("content_filter");
  });
});

test("a stream is what is asked for where a request does not say", async () => {
  streams(chat({ content: "so far BAD BAD" }), chatEnd);
  const { url } = await start();
  const response = await fetch(`${url}/api/chat`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "m", messages }),
  });
  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  const lines = (await response.text()).trim().split("\n");
  expect(JSON.parse(lines.at(-1) as string)).toMatchObject({ done: true, done_reason: "content_filter" });
});

describe("a whole answer of chat", () => {
  const ask = { model: "qwen3:8b", messages, stream: false as const };
  const calls = [{ function: { name: "weather", arguments: { city: "Oslo" } } }];

  test("comes out as it was", async () => {
    const whole = {
      ...chatEnd,
      message: { role: "assistant", thinking: "Hm.", content: "Hello.", tool_calls: calls },
    };
    proxied.upstream.json(whole);
    const { client } = await start();
    expect(await client.chat(ask)).toEqual(whole);
  });

  test("a flagged one is cut, and keeps nothing but its texts", async () => {
    proxied.upstream.json({
      ...chatEnd,
      message: { role: "assistant", content: "so far BAD BAD more", tool_calls: calls },
    });
    const { client } = await start();
    const got = await client.chat(ask);
    expect(got.message).toEqual({ role: "assistant", content: "so far" });
    expect(got).toMatchObject({ done: true, done_reason: "content_filter", eval_count: 7 });
  });

  test("an error of the server's keeps its status and its words", async () => {
    proxied.upstream.json({ error: "model 'x' not found" }, 404);
    const { client } = await start();
    await expect(client.chat(ask)).rejects.toMatchObject({ status_code: 404, error: "model 'x' not found" });
  });

  test("a blocked prompt is an error in the protocol's shape, or answered with the replacement", async () => {
    proxied.upstream.json(chatEnd);
    const { client } = await start({}, { prompt: "Unsafe" });
    await expect(client.chat(ask)).rejects.toMatchObject({
      status_code: 400,
      error: expect.stringContaining("Unsafe"),
    });
    const other = await start({ replacement: "Sorry." }, { prompt: "Unsafe" });
    expect(await other.client.chat(ask)).toMatchObject({
      message: { content: "Sorry." },
      done: true,
      done_reason: "content_filter",
    });
    const { lines } = await read(await other.client.chat({ ...ask, stream: true }));
    expect(lines.map(({ message }) => message.content).join("")).toBe("Sorry.");
  });
});

describe("generate", () => {
  const ask = { model: "qwen3:8b", prompt: "Hi there", system: "Be brief." };

  test("a stream comes out whole, without token ids", async () => {
    streams(generated("", "Hm."), generated("Hello"), generated(" you"), generateEnd);
    const { client, prompts } = await start();
    const { lines, error } = await read(await client.generate({ ...ask, stream: true }));
    expect(error).toBeNull();
    expect(lines.map(({ thinking }) => thinking ?? "").join("")).toBe("Hm.");
    expect(lines.map(({ response }) => response).join("")).toBe("Hello you");
    const { context: _, ...end } = generateEnd;
    expect(lines.at(-1)).toEqual(end);
    expect(prompts[0]).toMatchObject({
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Hi there" },
      ],
    });
  });

  test("a flagged stream ends with done", async () => {
    streams(generated("so far BAD BAD"), generateEnd);
    const { client } = await start();
    const { lines } = await read(await client.generate({ ...ask, stream: true }));
    expect(lines.map(({ response }) => response).join("")).toBe("so far");
    expect(lines.at(-1)).toMatchObject({ done: true, done_reason: "content_filter" });
  });

  test("a flagged whole answer is cut", async () => {
    proxied.upstream.json({ ...generateEnd, response: "so far BAD BAD", thinking: "Hm." });
    const { client } = await start();
    const got = await client.generate({ ...ask, stream: false });
    expect(got).toMatchObject({ response: "so far", thinking: "Hm.", done_reason: "content_filter" });
    expect(got).not.toHaveProperty("context");
  });

  test("a request that only loads the model passes", async () => {
    const loaded = { ...head, response: "", done: true, done_reason: "load" };
    proxied.upstream.json(loaded);
    const { client } = await start();
    expect(await client.generate({ model: "m", prompt: "", stream: false })).toEqual(loaded);
  });

  test.each([
    ["context", { context: [1, 2] }],
    ["template", { template: "{{ .Prompt }}" }],
  ])("%s, which the guard cannot read, is refused", async (name, fields) => {
    const { client } = await start();
    await expect(client.generate({ ...ask, ...fields, stream: false })).rejects.toThrow(
      `the field "${name}"`,
    );
  });

  test("images are refused", async () => {
    const { client } = await start();
    const images = ["aGk="];
    await expect(client.generate({ ...ask, images, stream: false })).rejects.toThrow("images");
    const message = { role: "user", content: "Hi", images };
    await expect(client.chat({ model: "m", messages: [message] })).rejects.toThrow("images");
  });
});

test("what tells of models passes: lists, versions, descriptions, vectors", async () => {
  proxied.upstream.json({ models: [], version: "0.9", embeddings: [] });
  const { client } = await start();
  await client.list();
  await client.ps();
  await client.version();
  await client.show({ model: "m" });
  await client.embed({ model: "m", input: "Hi" });
  await expect.poll(() => proxied.log).toHaveLength(5);
  expect(proxied.log.every(({ end }) => end === "unjudged")).toBe(true);
  await expect(client.delete({ model: "m" })).rejects.toMatchObject({ status_code: 404 });
});
