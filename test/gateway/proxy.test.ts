import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { APIError, BadRequestError, RateLimitError } from "openai";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { InputError } from "../../src/errors.js";
import { GuardProxy, type LogEntry, type ProxyOptions } from "../../src/gateway/proxy.js";
import { type Listening, listen } from "../../src/gateway/server.js";
import { deferred } from "../../src/moderation/deferred.js";
import { ScriptedStream, scriptedGuard } from "../gate/scripted.js";
import { chunk, reply, scriptedUpstream, sse } from "./upstream.js";

const KEY = "sk-very-secret";
const user = [{ role: "user" as const, content: "Hi there" }];
const ask = { model: "m", messages: user };
/** As clients do: what is posted is JSON, and says so. */
const fetch: typeof globalThis.fetch = (url, init) =>
  globalThis.fetch(
    url,
    init?.method === "POST" ? { headers: { "content-type": "application/json" }, ...init } : init,
  );

let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let servers: Listening[];
let log: LogEntry[];
const unhandled = vi.fn();

beforeEach(async () => {
  unhandled.mockClear();
  process.on("unhandledRejection", unhandled);
  upstream = await scriptedUpstream();
  servers = [];
  log = [];
});
afterEach(async () => {
  for (const server of servers) await server.close(0);
  await upstream.close();
  await expect.poll(() => ScriptedStream.open).toBe(0);
  expect(JSON.stringify(log)).not.toContain(KEY);
  process.off("unhandledRejection", unhandled);
  expect(unhandled).not.toHaveBeenCalled();
});

async function start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof scriptedGuard>[0] = {}) {
  const { guard, inputs, prompts, streams } = scriptedGuard(script);
  const proxy = new GuardProxy(guard, {
    upstream: upstream.url,
    log: (entry) => log.push(entry),
    ...options,
  });
  const server = await listen(proxy, 0, "127.0.0.1");
  servers.push(server);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 });
  return { client, proxy, server, url: server.url, inputs, prompts, streams };
}

async function logged(): Promise<LogEntry> {
  await expect.poll(() => log.length).toBeGreaterThan(0);
  return log[0];
}

type Stream = AsyncIterable<OpenAI.ChatCompletionChunk>;
async function read(stream: Stream) {
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  let error: unknown = null;
  try {
    for await (const chunk of stream) chunks.push(chunk);
  } catch (caught) {
    error = caught;
  }
  const choices = chunks.flatMap((chunk) => chunk.choices);
  const text = (index = 0) =>
    choices
      .filter((choice) => choice.index === index)
      .map((choice) => choice.delta.content ?? "")
      .join("");
  const finish = (index = 0) => choices.findLast((choice) => choice.index === index)?.finish_reason;
  return { chunks, error, text, finish };
}

describe("chat completions, streaming", () => {
  test("a clean answer comes out whole", async () => {
    upstream.stream(...reply("Hel", "lo, all", " is well."));
    const { client } = await start();
    const { chunks, text, finish, error } = await read(
      await client.chat.completions.create({ ...ask, stream: true }),
    );
    expect(error).toBeNull();
    expect(text()).toBe("Hello, all is well.");
    expect(finish()).toBe("stop");
    expect(chunks[0].choices[0].delta.role).toBe("assistant");
    expect(chunks.every(({ id, model }) => id === "c1" && model === "m")).toBe(true);
    expect(chunks.at(-1)?.usage?.total_tokens).toBe(3);
    expect(upstream.asked[0]).toMatchObject({ method: "POST", path: "/v1/chat/completions" });
    expect(upstream.asked[0].headers.authorization).toBe(`Bearer ${KEY}`);
    expect(JSON.parse(upstream.asked[0].body)).toEqual({ ...ask, stream: true });
    expect(await logged()).toMatchObject({
      end: "passed",
      endpoint: "/chat/completions",
      model: "m",
      stream: true,
      status: 200,
      error: null,
    });
    expect(JSON.stringify(log)).not.toMatch(/Hello|Hi there/);
  });

  test.each(["hold-back", "stream-first"] as const)(
    "%s: a flagged one ends with content_filter, and the model is stopped",
    async (mode) => {
      upstream.stream(
        chunk({ role: "assistant" }),
        ...["so ", "far ", "BAD ", "BAD ", "more "].map((content) => chunk({ content })),
        Number.POSITIVE_INFINITY,
      );
      const { client } = await start({ mode });
      const { chunks, text, finish, error } = await read(
        await client.chat.completions.create({ ...ask, stream: true }),
      );
      expect(error).toBeNull();
      if (mode === "hold-back") expect(text()).toBe("so far");
      expect(finish()).toBe("content_filter");
      expect(chunks.at(-1)).toMatchObject({
        id: "c1",
        qwen3guard: {
          code: "MODERATION_VIOLATION",
          part: "response",
          risk: "Unsafe",
          category: "Violent",
          span: { start: 6, end: 14 },
        },
      });
      expect(await upstream.asked[0].aborted).toBe(true);
      const entry = await logged();
      expect(entry).toMatchObject({ end: "flagged", status: 200, violations: [{ risk: "Unsafe" }] });
      expect(JSON.stringify(entry)).not.toContain("BAD");
    },
  );

  test("the stream ends with [DONE], flagged or not", async () => {
    const { url } = await start();
    const raw = async () =>
      (
        await fetch(`${url}/v1/chat/completions`, {
          method: "POST",
          body: JSON.stringify({ ...ask, stream: true }),
        })
      ).text();
    upstream.stream(...reply("fine"));
    expect((await raw()).trimEnd().endsWith("\n\ndata: [DONE]")).toBe(true);
    upstream.stream(...reply("BAD BAD"));
    expect((await raw()).trimEnd().endsWith("\n\ndata: [DONE]")).toBe(true);
    // A model that breaks off without it is not made to look complete.
    upstream.stream(chunk({ content: "fine" }));
    expect(await raw()).not.toContain("[DONE]");
  });

  test("logs hold flagged text only where asked for", async () => {
    upstream.stream(...reply("so BAD BAD"));
    const { client } = await start({ logText: true });
    await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect((await logged()).violations).toMatchObject([{ text: " BAD BAD" }]);
  });

  test("a blocked prompt is a 400 as OpenAI's, and the model is stopped", async () => {
    upstream.stream(chunk({ content: "x" }), Number.POSITIVE_INFINITY);
    const promptAfter = vi.waitFor(() => expect(upstream.asked).toHaveLength(1), 20_000);
    const { client } = await start({}, { prompt: "Unsafe", promptAfter });
    const error = await client.chat.completions.create({ ...ask, stream: true }).catch((caught) => caught);
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({
      status: 400,
      code: "content_filter",
      type: "invalid_request_error",
      param: "messages",
    });
    expect(error.error.qwen3guard).toMatchObject({ part: "prompt", risk: "Unsafe" });
    expect(await upstream.asked[0].aborted).toBe(true);
    expect(await logged()).toMatchObject({ end: "blocked", status: 400 });
  });

  test("with promptFirst the model is not asked", async () => {
    upstream.stream(...reply("x"));
    const { client } = await start({ promptFirst: true }, { prompt: "Unsafe", promptAfter: sleep(20) });
    await expect(client.chat.completions.create({ ...ask, stream: true })).rejects.toBeInstanceOf(
      BadRequestError,
    );
    expect(upstream.asked).toHaveLength(0);
  });

  test("choices are judged each for itself", async () => {
    upstream.stream(
      ...[0, 1, 2].map((i) => chunk({ role: "assistant" }, null, i)),
      chunk({ content: "first " }, null, 0),
      chunk({ content: "second BAD BAD" }, null, 1),
      chunk({ content: "third BAD" }, null, 2),
      chunk({ content: "goes on" }, null, 0),
      chunk({ content: " on" }, null, 1),
      chunk({ content: " fine" }, null, 2),
      ...[0, 1, 2].map((i) => chunk({}, "stop", i)),
      "[DONE]",
    );
    const { client, streams } = await start();
    const { text, finish } = await read(await client.chat.completions.create({ ...ask, n: 3, stream: true }));
    expect([0, 1, 2].map(text)).toEqual(["first goes on", "second", "third BAD fine"]);
    expect([0, 1, 2].map(finish)).toEqual(["stop", "content_filter", "stop"]);
    expect(streams).toHaveLength(3);
  });

  test("reasoning that stands in both of its fields is read once, and comes in both", async () => {
    const both = (text: string) => chunk({ reasoning_content: text, reasoning: text });
    upstream.stream(both("let me"), both(" think"), chunk({ content: "it is" }), chunk({}, "stop"), "[DONE]");
    const { client, streams } = await start();
    const { chunks } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    const deltas = chunks.flatMap(({ choices }) =>
      choices.map(({ delta }) => delta as Record<string, string>),
    );
    for (const field of ["reasoning_content", "reasoning"]) {
      expect(deltas.map((delta) => delta[field] ?? "").join("")).toBe("let me think");
    }
    expect(streams[0].pushes.join("")).toBe("<think>\nlet me think\n</think>\n\nit is");
  });

  test("reasoning is judged and stays reasoning; a refusal is text", async () => {
    upstream.stream(
      chunk({ reasoning_content: "let me" }),
      chunk({ reasoning_content: " think" }),
      chunk({ content: "it is" }),
      chunk({ refusal: " no" }),
      chunk({}, "stop"),
      "[DONE]",
    );
    const { client, streams } = await start();
    const { chunks, text } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    const deltas = chunks.flatMap(({ choices }) =>
      choices.map(({ delta }) => delta as Record<string, string>),
    );
    expect(deltas.map(({ reasoning_content = "" }) => reasoning_content).join("")).toBe("let me think");
    expect(deltas.map(({ refusal }) => refusal ?? "").join("")).toBe(" no");
    expect(text()).toBe("it is");
    expect(streams[0].pushes.join("")).toBe("<think>\nlet me think\n</think>\n\nit is\n\n no");
  });

  test("tool calls and log probabilities keep their place; what might hold text unseen is left out", async () => {
    upstream.stream(
      {
        ...chunk({ content: "look" }),
        choices: [
          {
            index: 0,
            delta: { content: "look", annotations: ["BAD"] },
            logprobs: { content: [{ token: "look" }] },
          },
        ],
      },
      chunk({ tool_calls: [{ index: 0, id: "t", function: { name: "f", arguments: '{"a":"BAD BAD"}' } }] }),
      chunk({}, "tool_calls"),
      "[DONE]",
    );
    const { client } = await start();
    const { chunks, finish } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    const kinds = chunks.map(({ choices: [{ delta, logprobs, finish_reason }] }) =>
      delta.content ? "text" : delta.tool_calls ? "call" : logprobs ? "logprobs" : finish_reason,
    );
    expect(kinds).toEqual(["text", "logprobs", "call", "tool_calls"]);
    expect(finish()).toBe("tool_calls");
    expect(JSON.stringify(chunks)).not.toContain("annotations");
  });

  test("bytes may come cut anywhere, with CRLF and comments between", async () => {
    const text = "Grüße 👍🏽 — 日本語";
    const lines = [
      ": comment",
      `data: ${JSON.stringify(chunk({ content: text }))}`,
      "",
      ": ping",
      "",
      `data: ${JSON.stringify(chunk({}, "stop"))}`,
      "",
      "data: [DONE]",
      "",
      "",
    ];
    const bytes = new TextEncoder().encode(lines.join("\r\n"));
    upstream.answerWith(() => ({ script: Array.from(bytes, (byte) => Uint8Array.of(byte)) }));
    const { client } = await start();
    const result = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(result.error).toBeNull();
    expect(result.text()).toBe(text);
    expect(result.finish()).toBe("stop");
  });

  test("a slow client slows the model, not the memory", async () => {
    const total = 3000;
    let sent = 0;
    function* events() {
      for (; sent < total; sent++) yield sse(chunk({ content: "some more words here. ".repeat(800) }));
    }
    upstream.answerWith(() => ({ script: events() }));
    const { client } = await start();
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    await stream[Symbol.asyncIterator]().next();
    let before = -1;
    while (before !== sent) {
      before = sent;
      await sleep(200);
    }
    expect(sent).toBeLessThan(total / 2);
    stream.controller.abort();
  });
});

describe("when something breaks", () => {
  test("the model's stream breaks off: what was judged comes, then an error", async () => {
    upstream.answerWith(() => ({ script: [sse(chunk({ content: "so far so " })), 20, "die"] }));
    const { client } = await start();
    const { text, error } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(text()).toBe("so far so ");
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ code: "upstream_failed" });
    expect(await logged()).toMatchObject({ end: "failed", error: { code: "upstream_failed" } });
  });

  test.each([
    ["is not JSON", "{broken"],
    ["is no object", "[1]"],
    ["has content nobody can read", JSON.stringify(chunk({ content: { image: "x" } }))],
    ["has a choice that was not asked for", JSON.stringify(chunk({ content: "x" }, null, 1))],
  ])("an event %s: an error, never text unjudged", async (_, event) => {
    upstream.stream(chunk({ content: "fine " }), event, chunk({ content: "unseen" }), "[DONE]");
    const { client } = await start();
    const { text, error } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(text()).toBe("fine ");
    expect(error).toMatchObject({ code: "upstream_invalid" });
  });

  test("the model's own error within the stream is passed on", async () => {
    upstream.stream(chunk({ content: "fine " }), { error: { message: "overloaded", code: "busy" } });
    const { client } = await start();
    const { error } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(error).toMatchObject({ code: "busy", message: expect.stringContaining("overloaded") });
  });

  test("the model's refusal is passed on as it is", async () => {
    upstream.json({ error: { message: "bad key", type: "x", code: "invalid_api_key", param: null } }, 401);
    const { client } = await start();
    await expect(client.chat.completions.create({ ...ask, stream: true })).rejects.toMatchObject({
      status: 401,
      code: "invalid_api_key",
    });
  });

  test("nobody answers: 502", async () => {
    const { client } = await start({ upstream: "http://127.0.0.1:1" });
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({
      status: 502,
      code: "upstream_unreachable",
    });
  });

  test("the guard fails: 503 before the answer, an error within it, nothing unjudged", async () => {
    upstream.stream(...reply("one two", " three four", " five"));
    const early = await start({}, () => ({ promptAfter: Promise.reject(new Error("secret detail")) }));
    const refused = await early.client.chat.completions
      .create({ ...ask, stream: true })
      .catch((error) => error);
    expect(refused).toMatchObject({ status: 500, code: "internal_error" });
    expect(refused.message).not.toContain("secret");
    expect(refused.message).toContain("not the model's");
    const late = await start({}, { failAt: 5 });
    const { text, error } = await read(await late.client.chat.completions.create({ ...ask, stream: true }));
    expect(text()).not.toContain("four");
    expect(error).toMatchObject({ code: "logits_not_finite" });
  });

  test("the guard fails while the model has more to say: the model is stopped, the place is free", async () => {
    upstream.stream(chunk({ content: "one two three " }), Number.POSITIVE_INFINITY);
    const { client, proxy } = await start({}, { failAt: 2 });
    const { error } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(error).toBeInstanceOf(APIError);
    expect(await upstream.asked[0].aborted).toBe(true);
    await expect.poll(() => proxy.streams).toBe(0);
  });

  test("unless the policy fails open", async () => {
    upstream.stream(...reply("one two", " three four", " BAD BAD"));
    const { client } = await start({ policy: { failOpen: true } }, { failAt: 5 });
    const { text, finish } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(text()).toBe("one two three four BAD BAD");
    expect(finish()).toBe("stop");
    expect((await logged()).error).toMatchObject({ code: "logits_not_finite" });
  });

  test("an answer that no guard can read is the server's failure, not the client's, and passes nothing", async () => {
    const failure = new InputError("MARKS_TOO_MANY", "More than 256 combining marks follow one character.");
    const { client } = await start({ policy: { failOpen: true } }, { failAt: 3, failure });
    upstream.stream(...reply("one two", " three four"));
    const { text, error } = await read(await client.chat.completions.create({ ...ask, stream: true }));
    expect(text()).not.toContain("three");
    expect(error).toMatchObject({ code: "marks_too_many", type: "server_error" });
    upstream.json({ choices: [{ index: 0, message: { role: "assistant", content: "one two three four" } }] });
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({
      status: 502,
      code: "marks_too_many",
    });
  });

  test("a client that leaves: the model is stopped and the places are free", async () => {
    const more = Array.from({ length: 50 }, () => [chunk({ content: "more " }), 20]).flat();
    upstream.stream(...more, Number.POSITIVE_INFINITY);
    const { client, proxy } = await start();
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    expect(await upstream.asked[0].aborted).toBe(true);
    await expect.poll(() => proxy.streams).toBe(0);
    expect(await logged()).toMatchObject({ end: "cancelled" });
  });

  test("also one that leaves before the answer has begun", async () => {
    upstream.answerWith(() => ({ script: [Number.POSITIVE_INFINITY] }));
    const { url, proxy } = await start({}, { promptAfter: new Promise(() => {}) });
    const controller = new AbortController();
    const request = fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      body: JSON.stringify(ask),
      signal: controller.signal,
    });
    await expect.poll(() => proxy.streams).toBe(1);
    controller.abort();
    await expect(request).rejects.toThrow();
    await expect.poll(() => proxy.streams).toBe(0);
    await expect.poll(() => ScriptedStream.open).toBe(0);
  });
});

describe("whole answers", () => {
  const completion = (...messages: object[]) => ({
    id: "c2",
    object: "chat.completion",
    choices: messages.map((message, index) => ({
      index,
      message: { role: "assistant", ...message },
      finish_reason: "stop",
      logprobs: null,
    })),
    usage: { total_tokens: 9 },
  });

  test("clean, they come out as they were", async () => {
    const body = completion(
      { content: "Hello there.", reasoning_content: "hm", tool_calls: [{ id: "t" }] },
      { content: null },
    );
    upstream.json(body);
    const { client } = await start();
    expect(await client.chat.completions.create({ ...ask, n: 2 })).toMatchObject(body);
    expect((await logged()).end).toBe("passed");
  });

  test("flagged, each choice is cut before its flag", async () => {
    upstream.json(
      completion(
        { content: "all fine" },
        { content: "so BAD BAD more", tool_calls: [{ id: "t" }], audio: { transcript: "BAD" } },
      ),
    );
    const { client } = await start();
    const { choices, ...rest } = await client.chat.completions.create({ ...ask, n: 2 });
    expect(choices[0]).toMatchObject({ finish_reason: "stop", message: { content: "all fine" } });
    expect(choices[1]).toMatchObject({
      finish_reason: "content_filter",
      message: { content: "so" },
      qwen3guard: { risk: "Unsafe" },
    });
    expect(choices[1].message.tool_calls).toBeUndefined();
    expect(choices[1].message.audio).toBeUndefined();
    expect(rest).toMatchObject({ id: "c2", usage: { total_tokens: 9 }, qwen3guard: { risk: "Unsafe" } });
  });

  test("a whole answer to who asked for a stream is cut as well", async () => {
    upstream.json(completion({ content: "so far BAD BAD" }));
    const { url } = await start({ mode: "stream-first" });
    const answer = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      body: JSON.stringify({ ...ask, stream: true }),
    });
    expect(await answer.json()).toMatchObject({
      choices: [{ finish_reason: "content_filter", message: { content: "so far" } }],
    });
  });

  test("a blocked prompt is a 400", async () => {
    upstream.json(completion({ content: "x" }));
    const { client } = await start({}, { prompt: "Unsafe" });
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({
      status: 400,
      code: "content_filter",
    });
  });

  test.each([
    ["/chat/completions", ask, { message: { content: "BAD BAD" } }],
    ["/completions", { prompt: "Hi" }, { text: "BAD BAD" }],
    ["/responses", { input: "Hi" }, { output_text: "BAD BAD" }],
  ])("what is no answer of %s is a 502", async (path, asked, body) => {
    upstream.json(body);
    const { url } = await start();
    const answer = await fetch(`${url}/v1${path}`, {
      method: "POST",
      body: JSON.stringify(asked),
    });
    expect(answer.status).toBe(502);
    expect(await answer.text()).not.toContain("BAD");
  });

  test("what is no JSON is a 502", async () => {
    upstream.answerWith(() => ({ type: "text/html", script: ["<html>"] }));
    const { client } = await start();
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({
      status: 502,
      code: "upstream_invalid",
    });
  });
});

describe("completions", () => {
  const piece = (text: string, index = 0, finish_reason: string | null = null) => ({
    id: "t",
    object: "text_completion",
    choices: [{ index, text, finish_reason, logprobs: null }],
  });

  test("streaming, one gate for each prompt and choice", async () => {
    upstream.stream(
      piece("one "),
      piece("two BAD BAD", 1),
      piece("fine"),
      piece("", 0, "stop"),
      piece("", 1, "stop"),
      "[DONE]",
    );
    const { client, inputs } = await start();
    const texts = ["", ""];
    const ends: (string | null)[] = [null, null];
    for await (const { choices } of await client.completions.create({
      model: "m",
      prompt: ["a", "b"],
      stream: true,
    })) {
      for (const { index, text, finish_reason } of choices) {
        texts[index] += text;
        ends[index] ??= finish_reason;
      }
    }
    expect(texts).toEqual(["one fine", "two"]);
    expect(ends).toEqual(["stop", "content_filter"]);
    expect(inputs.map(({ messages }) => messages?.[0].content)).toEqual(["a", "b"]);
  });

  test("whole", async () => {
    upstream.json({
      id: "t",
      choices: [{ index: 0, text: "so BAD BAD", finish_reason: "length", logprobs: null }],
    });
    const { client } = await start();
    const { choices } = await client.completions.create({ model: "m", prompt: "a" });
    expect(choices[0]).toMatchObject({ text: "so", finish_reason: "content_filter" });
  });

  test("ids of a stranger's tokenizer cannot be judged", async () => {
    const { client } = await start();
    await expect(client.completions.create({ model: "m", prompt: [1, 2, 3] })).rejects.toMatchObject({
      status: 400,
      code: "prompt_unreadable",
    });
    expect(upstream.asked).toHaveLength(0);
  });
});

describe("responses", () => {
  const delta = (text: string) => ({
    type: "response.output_text.delta",
    item_id: "i",
    output_index: 0,
    content_index: 0,
    delta: text,
    logprobs: [{ token: text }],
    sequence_number: 7,
  });
  const named = (...events: { type: string }[]) =>
    upstream.answerWith(() => ({ script: events.map((event) => `event: ${event.type}\n${sse(event)}`) }));
  const response = { id: "r", object: "response", status: "in_progress", output: [] };
  const created = { type: "response.created", response, sequence_number: 0 };
  const item = (text: string) => ({
    id: "i",
    type: "message",
    role: "assistant",
    status: "completed",
    content: [{ type: "output_text", text, annotations: [] }],
  });

  test("streaming: a clean one comes out whole and in order", async () => {
    named(
      created,
      delta("Hel") as never,
      delta("lo there") as never,
      { type: "response.output_text.done", item_id: "i", text: "Hello there" } as never,
      {
        type: "response.completed",
        response: { ...response, status: "completed", output: [item("Hello there")] },
      } as never,
    );
    const { client, inputs } = await start();
    const events = [];
    for await (const event of await client.responses.create({
      model: "m",
      instructions: "Be kind.",
      input: "Hi",
      stream: true,
    }))
      events.push(event);
    expect(events.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1])).toEqual([
      "response.created",
      "response.output_text.delta",
      "response.output_text.done",
      "response.completed",
    ]);
    expect(events.map((event) => ("delta" in event ? event.delta : "")).join("")).toBe("Hello there");
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, i) => i));
    expect(inputs[0].messages).toEqual([
      { role: "system", content: "Be kind." },
      { role: "user", content: "Hi" },
    ]);
  });

  test("streaming: a flagged one is incomplete for content_filter, and nothing of the rest is seen", async () => {
    named(
      created,
      delta("so far BAD") as never,
      delta(" BAD") as never,
      { type: "response.output_text.done", item_id: "i", text: "so far BAD BAD" } as never,
      { type: "response.completed", response: { ...response, output: [item("so far BAD BAD")] } } as never,
    );
    const { client } = await start();
    const events = [];
    for await (const event of await client.responses.create({ model: "m", input: "Hi", stream: true }))
      events.push(event);
    expect(events.at(-1)).toMatchObject({
      type: "response.incomplete",
      response: {
        id: "r",
        status: "incomplete",
        incomplete_details: { reason: "content_filter" },
        output: [{ id: "i", content: [{ text: "so far" }] }],
        qwen3guard: { risk: "Unsafe" },
      },
    });
    expect(JSON.stringify(events)).not.toContain("BAD");
  });

  test.each([
    ["text that came in no delta", { type: "response.output_text.done", item_id: "i", text: "BAD BAD" }],
    ["an item", { type: "response.output_item.done", output_index: 0, item: item("BAD BAD") }],
    ["an answer", { type: "response.completed", response: { ...response, output: [item("BAD BAD")] } }],
    ["a delta of unknown kind", { type: "response.speech.delta", delta: "BAD BAD" }],
  ])("streaming: nothing passes unjudged, such as %s", async (_, event) => {
    named(created, delta("fine") as never, event as never);
    const { url } = await start();
    const answer = await fetch(`${url}/v1/responses`, {
      method: "POST",
      body: JSON.stringify({ model: "m", input: "Hi", stream: true }),
    });
    expect(await answer.text()).not.toContain("BAD");
  });

  test("whole", async () => {
    upstream.json({
      ...response,
      status: "completed",
      output: [item("so far BAD BAD"), { type: "function_call", name: "f" }],
      output_text: "so far BAD BAD",
    });
    const { client } = await start();
    const answer = await client.responses.create({
      model: "m",
      input: [{ role: "user", content: [{ type: "input_text", text: "Hi" }] }],
    });
    expect(answer).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "content_filter" },
      output_text: "so far",
    });
    expect(answer.output).toHaveLength(1);
  });
});

describe("requests", () => {
  test.each<[string, object, string]>([
    ["no messages", { model: "m" }, "messages_invalid"],
    [
      "a picture",
      { model: "m", messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      "attachment_unreadable",
    ],
    ["too many choices", { ...ask, n: 99 }, "too_many_choices"],
    ["half a choice", { ...ask, n: 0.5 }, "invalid_n"],
    ["messages in capitals beside them", { ...ask, Messages: user }, "body_invalid"],
    [
      "content in capitals",
      { ...ask, messages: [{ role: "user", content: "", CONTENT: "x" }] },
      "body_invalid",
    ],
    ["a letter that folds", { ...ask, "me\u017f\u017fages": user }, "body_invalid"],
  ])("%s: 400, and the model is not asked", async (_, body, code) => {
    const { client } = await start();
    await expect(client.chat.completions.create(body as typeof ask)).rejects.toMatchObject({
      status: 400,
      code,
    });
    expect(upstream.asked).toHaveLength(0);
  });

  test("a picture passes unjudged where the policy says so", async () => {
    upstream.json({ choices: [{ index: 0, message: { role: "assistant", content: "nice" } }] });
    const { client, inputs } = await start({ policy: { attachments: "ignore" } });
    const content = [
      { type: "text" as const, text: "What is it?" },
      { type: "image_url" as const, image_url: { url: "x" } },
    ];
    await client.chat.completions.create({ model: "m", messages: [{ role: "user", content }] });
    expect(inputs[0].messages).toEqual([{ role: "user", content: "What is it?" }]);
  });

  test("a body larger than the guard can read, unless attachments may pass", async () => {
    const body = JSON.stringify({ ...ask, stop: "x".repeat(1_400_000) });
    const post = (url: string) => fetch(`${url}/v1/chat/completions`, { method: "POST", body });
    const { url } = await start();
    const refused = await post(url);
    expect([refused.status, await refused.json()]).toMatchObject([
      413,
      { error: { code: "body_too_large" } },
    ]);
    upstream.json({ choices: [{ index: 0, message: { role: "assistant", content: "nice" } }] });
    const { url: open } = await start({ policy: { attachments: "ignore", unjudged: "pass" } });
    expect((await post(open)).status).toBe(200);
  });

  test("choices of one prompt share it", async () => {
    upstream.json({ choices: [0, 1, 2].map((index) => ({ index, text: "fine" })) });
    const { client, prompts, inputs } = await start();
    await client.completions.create({ model: "m", prompt: ["a", "b"], n: 3 }).catch(() => {});
    expect(inputs.map(({ messages }) => messages?.[0].content)).toEqual(["a", "a", "a", "b", "b", "b"]);
    expect(prompts.map(({ messages }) => messages[0].content)).toEqual(["a", "b"]);
  });

  test("a body that is too large or no JSON", async () => {
    const { url } = await start({ maxBody: 1000 });
    const post = (body: string) => fetch(`${url}/v1/chat/completions`, { method: "POST", body });
    expect((await post("x".repeat(2000))).status).toBe(413);
    expect(await (await post("{")).json()).toMatchObject({ error: { code: "body_invalid" } });
    expect(log).toMatchObject([
      { endpoint: "/chat/completions", end: "refused", status: 413, error: { code: "body_too_large" } },
      { endpoint: "/chat/completions", end: "refused", status: 400, error: { code: "body_invalid" } },
    ]);
  });

  test("one among many prompts is no way to fill the memory", async () => {
    const { url } = await start();
    const body = JSON.stringify({ prompt: Array(3e4).fill(""), n: 128 });
    const answer = await fetch(`${url}/v1/completions`, { method: "POST", body });
    expect(await answer.json()).toMatchObject({ error: { code: "too_many_choices" } });
  });

  test("what is judged is what the model gets, also where a field comes twice", async () => {
    upstream.json({ choices: [] });
    const { url, inputs } = await start();
    const body = JSON.stringify(ask).replace("{", '{"messages": [{"role": "user", "content": "unseen"}],');
    await fetch(`${url}/v1/chat/completions`, { method: "POST", body });
    expect(inputs[0].messages).toEqual(user);
    expect(upstream.asked[0].body).not.toContain("unseen");
  });

  test("more than there are places for: 429 with Retry-After", async () => {
    const over = deferred<void>();
    upstream.stream(chunk({ content: "x" }), over.promise, "[DONE]");
    const { client } = await start({ maxStreams: 1 });
    const first = await client.chat.completions.create({ ...ask, stream: true });
    const error = await client.chat.completions.create({ ...ask, stream: true }).catch((caught) => caught);
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error.headers.get("retry-after")).toBe("1");
    over.resolve();
    await read(first);
    await expect.poll(() => ScriptedStream.open).toBe(0);
    await read(await client.chat.completions.create({ ...ask, stream: true }));
  });

  test("one that takes too long ends", async () => {
    upstream.stream(chunk({ content: "some text" }), Number.POSITIVE_INFINITY);
    const { client } = await start({ timeout: 100 });
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    vi.advanceTimersByTime(100_000);
    expect((await read(stream)).error).toMatchObject({ code: "timeout" });
    expect(await upstream.asked[0].aborted).toBe(true);
  });

  test("lists of models pass", async () => {
    upstream.json({ object: "list", data: [{ id: "m" }] });
    const { client } = await start();
    expect((await client.models.list()).data).toEqual([{ id: "m" }]);
    expect(upstream.asked[0]).toMatchObject({ method: "GET", path: "/v1/models" });
  });

  test.each([
    "/v1/chat/completions/",
    "/v1//chat/completions",
    "/v1/Chat/Completions",
    "/v1/chat%2Fcompletions",
    "/api/v1/chat/completions?x=1",
    "/v1/chat/%63ompletions",
    "/v1/chat/completions;x",
    "/v1/chat;x=1/completions",
    "/v1/chat/%63ompletions;%zz",
    "/v1/chat/x%2F..%2Fcompletions",
  ])("no spelling of a path gets past the guard: %s", async (path) => {
    upstream.stream(...reply("so BAD BAD"));
    const { url } = await start();
    const text = await (
      await fetch(url + path, { method: "POST", body: JSON.stringify({ ...ask, stream: true }) })
    ).text();
    expect(text).toContain("content_filter");
    expect(text).not.toContain("BAD");
  });

  test("an upstream given with /v1 and a path of its own", async () => {
    upstream.json({ choices: [] });
    const { client } = await start({ upstream: `${upstream.url}/api/v1/` });
    await client.chat.completions.create(ask);
    expect(upstream.asked[0].path).toBe("/api/v1/chat/completions");
  });
});

describe("the proxy's own endpoints", () => {
  test("moderations", async () => {
    const { client, inputs } = await start({}, ({ messages }) => ({
      prompt: String(messages?.[0].content).includes("BAD") ? "Unsafe" : "Safe",
    }));
    const { results } = await client.moderations.create({ input: ["fine", "BAD"] });
    expect(results.map(({ flagged }) => flagged)).toEqual([false, true]);
    expect(results[1].categories).toMatchObject({ Violent: true, violence: true, PII: false });
    expect(results[1].category_scores.violence).toBeGreaterThan(0.5);
    expect(inputs).toHaveLength(2);
    const parts = ["fine", "BAD"].map((text) => ({ type: "text" as const, text }));
    const whole = await client.moderations.create({ input: parts });
    expect(whole.results.map(({ flagged }) => flagged)).toEqual([true]);
    await expect(client.moderations.create({ input: [] })).rejects.toMatchObject({ status: 400 });
    await expect(client.moderations.create({ input: Array(257).fill("fine") })).rejects.toMatchObject({
      code: "too_many_inputs",
    });
    // A picture may say something that its caption does not.
    const picture = { type: "image_url", image_url: { url: "https://example.org" }, text: "fine" };
    await expect(client.moderations.create({ input: [picture] as never })).rejects.toMatchObject({
      code: "input_unreadable",
    });
    expect(upstream.asked).toHaveLength(0);
    expect(log).toMatchObject([
      { endpoint: "/moderations", end: "passed", status: 200, error: null },
      { endpoint: "/moderations", end: "passed", status: 200, error: null },
      { endpoint: "/moderations", end: "refused", status: 400, error: { code: "input_unreadable" } },
      { endpoint: "/moderations", end: "refused", status: 400, error: { code: "too_many_inputs" } },
      { endpoint: "/moderations", end: "refused", status: 400, error: { code: "input_unreadable" } },
    ]);
  });

  test("health and metrics", async () => {
    upstream.stream(...reply("so BAD BAD"));
    const { client, url } = await start();
    expect(await (await fetch(`${url}/healthz`)).json()).toEqual({ status: "ok", active: 0, waiting: 0 });
    await read(await client.chat.completions.create({ ...ask, stream: true }));
    await logged();
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toContain('qwen3guard_requests_total{endpoint="/chat/completions",end="flagged"} 1');
    expect(text).toContain(
      'qwen3guard_findings_total{part="response",action="block",risk="Unsafe",category="Violent"} 1',
    );
    expect(text).toContain("qwen3guard_streams 0");
    expect(text).toContain("process_resident_memory_bytes");
  });
});

describe("shutting down", () => {
  test("what is under way may end, nothing new begins", async () => {
    const refused = deferred<void>();
    upstream.stream(chunk({ content: "so " }), refused.promise, ...reply("far"));
    const { client, server, proxy, url } = await start();
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    const closed = server.close(60_000);
    // What the system has taken meanwhile is answered.
    await vi.waitFor(() => expect(fetch(`${url}/healthz`)).rejects.toThrow(), 20_000);
    await expect(client.chat.completions.create(ask)).rejects.toThrow();
    refused.resolve();
    const { text, finish } = await read(stream);
    expect(text()).toBe("so far");
    expect(finish()).toBe("stop");
    await closed;
    expect(proxy.streams).toBe(0);
  });

  test("what takes longer than the grace is ended", async () => {
    upstream.stream(chunk({ content: "so far so good" }), Number.POSITIVE_INFINITY);
    const { client, server } = await start();
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    const reading = read(stream);
    await server.close(50);
    expect((await reading).error).toBeInstanceOf(Error);
    expect(await upstream.asked[0].aborted).toBe(true);
  });

  test("a connection that only stands there does not keep it up", async () => {
    const { server } = await start();
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));
    await server.close(50);
    socket.destroy();
  });

  test("a port that is taken is named", async () => {
    const { server, proxy } = await start();
    await expect(listen(proxy, Number(new URL(server.url).port), "127.0.0.1")).rejects.toMatchObject({
      code: "PORT_UNAVAILABLE",
    });
  });
});
