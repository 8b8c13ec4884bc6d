import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import type { ProxyOptions } from "../../src/gateway/proxy.js";
import { serving } from "./serving.js";
import { chunk, sse } from "./upstream.js";

const proxied = serving();
const messages = [{ role: "user" as const, content: "Hi there" }];
const flagged = "so far BAD BAD more";
const policy = { replacement: { Violent: "Let us talk of something else.", default: "Sorry." } };
const INSTEAD = "Let us talk of something else.";

async function start(
  options: Partial<ProxyOptions> = { policy },
  script: Parameters<typeof proxied.start>[1] = {},
) {
  const { url } = await proxied.start(options, script);
  return { url, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "k", maxRetries: 0 }) };
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

describe("chat completions", () => {
  const ask = { model: "m", messages };

  test("a flagged stream goes on with the replacement, and ends with content_filter", async () => {
    proxied.upstream.stream(
      chunk({ role: "assistant" }),
      chunk({ content: flagged }),
      chunk({}, "stop"),
      "[DONE]",
    );
    const { client } = await start();
    const chunks = await all(await client.chat.completions.create({ ...ask, stream: true }));
    const choices = chunks.flatMap((own) => own.choices);
    expect(choices.map(({ delta }) => delta.content ?? "").join("")).toBe(`so far${INSTEAD}`);
    expect(choices.at(-1)?.finish_reason).toBe("content_filter");
  });

  test("a flagged whole answer gives way to it, in each choice that was stopped", async () => {
    const choice = (index: number, content: string) => ({
      index,
      message: { role: "assistant", content },
      finish_reason: "stop",
    });
    proxied.upstream.json({ object: "chat.completion", choices: [choice(0, "Fine."), choice(1, flagged)] });
    const { client } = await start();
    const { choices } = await client.chat.completions.create({ ...ask, n: 2 });
    expect(choices.map(({ message, finish_reason }) => [message.content, finish_reason])).toEqual([
      ["Fine.", "stop"],
      [INSTEAD, "content_filter"],
    ]);
  });

  test.each([true, false])("a blocked prompt is answered with it (stream: %s)", async (stream) => {
    const { client, url } = await start({ policy }, { prompt: "Unsafe" });
    const body = { ...ask, n: 2 };
    if (stream) {
      const chunks = await all(await client.chat.completions.create({ ...body, stream: true }));
      const texts = [0, 1].map((index) =>
        chunks
          .flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
          .map(({ delta }) => delta.content ?? "")
          .join(""),
      );
      expect(texts).toEqual([INSTEAD, INSTEAD]);
    } else {
      const got = await client.chat.completions.create(body);
      expect(got).toMatchObject({ object: "chat.completion", model: "m" });
      expect(got.choices).toHaveLength(2);
      expect(got.choices[1]).toMatchObject({
        message: { content: INSTEAD },
        finish_reason: "content_filter",
      });
    }
    expect(url).toMatch(/^http/);
    expect(await proxied.logged()).toMatchObject({ end: "blocked", status: 200 });
  });

  test("without one for its category or any, a blocked prompt is an error", async () => {
    const { client } = await start({ policy: { replacement: { PII: "Private." } } }, { prompt: "Unsafe" });
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({
      status: 400,
      code: "content_filter",
    });
  });

  test("the option's text answers where the policy has none", async () => {
    const options = { policy: { replacement: { PII: "Private." } }, replacement: "No." };
    const { client } = await start(options, { prompt: "Unsafe" });
    const { choices } = await client.chat.completions.create(ask);
    expect(choices[0].message.content).toBe("No.");
  });
});

describe("completions", () => {
  const ask = { model: "m", prompt: "Hi" };

  test("a flagged stream, a flagged whole answer, and a blocked prompt", async () => {
    const { client } = await start();
    const base = { id: "c", object: "text_completion", created: 1, model: "m" };
    const choice = { index: 0, text: flagged, logprobs: null, finish_reason: "stop" };
    proxied.upstream.stream({ ...base, choices: [choice] }, "[DONE]");
    const chunks = await all(await client.completions.create({ ...ask, stream: true }));
    expect(chunks.map(({ choices }) => choices[0]?.text ?? "").join("")).toBe(`so far${INSTEAD}`);
    proxied.upstream.json({ ...base, choices: [choice] });
    expect((await client.completions.create(ask)).choices[0]).toMatchObject({
      text: INSTEAD,
      finish_reason: "content_filter",
    });
    const blocked = await start({ policy }, { prompt: "Unsafe" });
    expect((await blocked.client.completions.create(ask)).choices[0].text).toBe(INSTEAD);
  });
});

describe("responses", () => {
  const ask = { model: "m", input: "Hi there" };
  const at = { item_id: "m1", output_index: 0, content_index: 0 };
  const response = {
    id: "r",
    object: "response",
    created_at: 1,
    status: "in_progress",
    model: "m",
    output: [],
  };
  const item = { id: "m1", type: "message", role: "assistant", status: "in_progress", content: [] };
  const part = { type: "output_text", text: "", annotations: [] };

  test("a flagged stream closes what is open and brings the replacement as a message of its own", async () => {
    proxied.upstream.stream(
      { type: "response.created", response },
      { type: "response.output_item.added", output_index: 0, item },
      { type: "response.content_part.added", ...at, part },
      { type: "response.output_text.delta", ...at, delta: flagged },
    );
    const { client } = await start();
    const stream = client.responses.stream({ ...ask });
    const final = await stream.finalResponse();
    expect(final.status).toBe("incomplete");
    expect(final.output_text).toBe(`so far${INSTEAD}`);
    expect(
      final.output.map(({ type, status }: { type: string; status?: unknown }) => [type, status]),
    ).toEqual([
      ["message", "incomplete"],
      ["message", "completed"],
    ]);
  });

  test("a flagged whole answer and a blocked prompt", async () => {
    const content = [{ ...part, text: flagged }];
    proxied.upstream.json({ ...response, status: "completed", output: [{ ...item, content }] });
    const { client } = await start();
    const got = await client.responses.create(ask);
    expect([got.status, got.output_text]).toEqual(["incomplete", INSTEAD]);
    const blocked = await start({ policy }, { prompt: "Unsafe" });
    const denied = await blocked.client.responses.create(ask);
    expect([denied.status, denied.output_text]).toEqual(["incomplete", INSTEAD]);
    const final = await blocked.client.responses.stream({ ...ask }).finalResponse();
    expect([final.status, final.output_text]).toEqual(["incomplete", INSTEAD]);
  });
});

test("comments keep an event stream open while text is held", async () => {
  let go: (value?: unknown) => void = () => {};
  const held = new Promise((resolve) => {
    go = resolve;
  });
  proxied.upstream.answerWith(() => ({
    script: [sse(chunk({ content: "Hello" })), sse(chunk({}, "stop")), sse("[DONE]")],
  }));
  const { url } = await start({ keepAlive: 0.02 }, { beforePush: () => held });
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "m", messages, stream: true }),
  });
  const reader = (response.body as ReadableStream<Uint8Array>)
    .pipeThrough(new TextDecoderStream())
    .getReader();
  const { value } = await reader.read();
  expect(value).toBe(": keep-alive\n\n");
  go();
  let rest = "";
  for (let next = await reader.read(); !next.done; next = await reader.read()) rest += next.value;
  expect(rest).toContain("Hello");
});
