import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { deferred } from "../../src/moderation/deferred.js";
import { scriptedGuard } from "../gate/scripted.js";
import { serving } from "./serving.js";
import { chunk, reply } from "./upstream.js";

const served = serving();
const ask = { model: "m", messages: [{ role: "user", content: "Hi" }] };

const request = (body: object) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});
const asked = (body: object) => new Request("http://localhost/v1/chat/completions", request(body));
const post = (url: string, body: object, path = "/v1/chat/completions") => fetch(url + path, request(body));

describe("the places of a request are free again", () => {
  test("where the model's server refuses it, in words or without", async () => {
    const { url, proxy } = await served.start();
    for (const body of [{ error: { message: "bad key", code: "invalid_api_key" } }, {}]) {
      served.upstream.json(body, 401);
      expect((await post(url, { ...ask, n: 3 })).status).toBe(401);
      await expect.poll(() => proxy.streams).toBe(0);
    }
  });

  test("where it is found wrong only once they are taken", async () => {
    const { url, proxy } = await served.start({ mode: "regenerate", continue: "vllm" });
    const answer = await post(url, { ...ask, n: 2 });
    expect(await answer.json()).toMatchObject({ error: { code: "regenerate_one_choice" } });
    expect(proxy.streams).toBe(0);
  });

  test("where it was for moderations, whatever became of them", async () => {
    const promptAfter = Promise.reject(new Error("a fault"));
    promptAfter.catch(() => {});
    const { url, proxy } = await served.start({}, ({ messages }) =>
      messages?.[0].content === "fault" ? { promptAfter } : {},
    );
    expect((await post(url, { input: "fine" }, "/v1/moderations")).status).toBe(200);
    expect((await post(url, { input: "fault" }, "/v1/moderations")).status).toBe(500);
    expect(proxy.streams).toBe(0);
  });

  test("where who reads its answer leaves while the model says nothing", async () => {
    served.upstream.stream(chunk({ content: "one two" }), Number.POSITIVE_INFINITY);
    const { proxy } = await served.start();
    const { body } = await proxy.fetch(asked({ ...ask, stream: true }));
    const reader = (body as ReadableStream<Uint8Array>).getReader();
    // All there is so far: nothing waits to be written, and nobody would hear otherwise that there is no reader.
    await reader.read();
    await reader.cancel();
    expect(await served.upstream.asked[0].aborted).toBe(true);
    await expect.poll(() => proxy.streams).toBe(0);
  });

  test("where all of it was stopped, and the model says nothing more", async () => {
    served.upstream.stream(chunk({ content: "so BAD BAD more" }), Number.POSITIVE_INFINITY);
    const { url, proxy } = await served.start();
    const text = await (await post(url, { ...ask, stream: true })).text();
    expect(text).toContain("content_filter");
    expect(await served.upstream.asked[0].aborted).toBe(true);
    await expect.poll(() => proxy.streams).toBe(0);
  });

  test("where moderations take too long", async () => {
    const judged = deferred<void>();
    const { url, inputs } = await served.start({ timeout: 0.05 }, { promptAfter: judged.promise });
    const answer = post(url, { input: "fine" }, "/v1/moderations");
    await expect.poll(() => inputs[0]?.signal?.reason).toMatchObject({ code: "timeout" });
    judged.resolve();
    await answer;
  });
});

describe("a stream that has come to its end", () => {
  const read = async (...events: (object | string)[]) => {
    served.upstream.stream(...events);
    const { url } = await served.start();
    return (await post(url, { ...ask, stream: true })).text();
  };

  test("is followed by nothing, whatever its server says then", async () => {
    const text = await read(...reply("one two"), chunk({ content: "late" }));
    expect(text).toContain("two");
    expect(text).not.toContain("late");
    expect(text.trimEnd().endsWith("data: [DONE]")).toBe(true);
  });

  test("ends as its server ends it: without a last word where that has none", async () => {
    const text = await read(...reply("one two").slice(0, -1));
    expect(text).toContain('"stop"');
    expect(text).not.toContain("[DONE]");
  });

  test("is not kept alive any more", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    try {
      await read(...reply("one two"));
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

test("each of several prompts has to pass, before anything of an answer does", async () => {
  served.upstream.json({ choices: [0, 1].map((index) => ({ index, text: "fine", finish_reason: "stop" })) });
  const { url } = await served.start({}, ({ messages }) => ({
    prompt: messages?.[0].content === "BAD" ? "Unsafe" : "Safe",
  }));
  const answer = await post(url, { model: "m", prompt: ["fine", "BAD"] }, "/v1/completions");
  expect(answer.status).toBe(400);
  expect(await answer.text()).not.toContain("choices");
});

test("a server that keeps the input is asked once the prompt has passed, and not at all where it is blocked", async () => {
  served.upstream.json({ id: "r", object: "response", output: [] });
  const { url } = await served.start({}, { prompt: "Unsafe", promptAfter: sleep(300) });
  const answer = await post(url, { model: "m", input: "BAD", conversation: "conv_1" }, "/v1/responses");
  expect(answer.status).toBe(400);
  expect(served.upstream.asked).toEqual([]);
});

test("each choice is read closely, and so is what a scout reads: of the same conversation, under the same key", async () => {
  served.upstream.stream(...reply("one two"));
  const scout = scriptedGuard();
  const { url, inputs } = await served.start({
    ...{ mode: "scout-first", scout: scout.guard },
    policy: { prompt: { scope: "conversation" } },
  });
  expect(await (await post(url, { ...ask, stream: true })).text()).toContain("two");
  const [own, ahead] = [inputs[0], scout.inputs[0]];
  const alike = { messages: ask.messages, scope: "conversation", closely: true, overflow: "slide" };
  for (const input of [own, ahead]) expect(input).toMatchObject(alike);
  expect(own.cacheKey).toBeTruthy();
  expect(ahead.cacheKey).toBe(own.cacheKey);
});

test("a server's own words of a refusal pass where they are judged, and not where the guard has failed", async () => {
  served.upstream.json({ error: { message: "some words", code: "invalid_api_key" } }, 401);
  for (const script of [{}, { failAt: 1 }]) {
    const { url } = await served.start({}, script);
    const answer = await post(url, ask);
    expect(answer.status).toBe(401);
    expect((await answer.text()).includes("some words")).toBe(!("failAt" in script));
  }
});

test("a path that is judged for POST alone says so", async () => {
  const { url } = await served.start();
  const answer = await fetch(`${url}/v1/chat/completions`);
  expect(answer.status).toBe(405);
  expect(answer.headers.get("allow")).toBe("POST");
});

test("who leaves before a server has answered on a path that nobody judges is not waited for there", async () => {
  const [asked, left] = [deferred<void>(), deferred<void>()];
  const silent = createServer((_, response) => {
    response.on("close", () => left.resolve());
    asked.resolve();
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const upstream = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const { url } = await served.start({ upstream, allowPaths: ["/v1/files"] });
  const controller = new AbortController();
  const answer = fetch(`${url}/v1/files`, { signal: controller.signal });
  await asked.promise;
  controller.abort();
  await expect(answer).rejects.toThrow();
  await left.promise;
  silent.close();
});

test("what a request cost is told of all its choices together", async () => {
  served.upstream.json({
    choices: [0, 1].map((index) => ({ index, message: { role: "assistant", content: "one two three" } })),
  });
  const judged = deferred<void>();
  const { url, streams } = await served.start({}, { promptAfter: judged.promise });
  const answer = post(url, { ...ask, n: 2 });
  await expect.poll(() => streams).toHaveLength(2);
  for (const stream of streams) Object.assign(stream, { promptTokens: 5, reusedTokens: 4 });
  judged.resolve();
  await answer;
  // Three words each, and an empty think block before them, which the guard reads as two.
  expect(await served.logged()).toMatchObject({ promptTokens: 10, reusedTokens: 8, tokens: 10 });
});

test("an answer that is a redirection is none, whatever it holds", async () => {
  const script = [
    JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content: "fine" } }] }),
  ];
  const headers = { location: "http://127.0.0.1:1/v1/chat/completions" };
  served.upstream.answerWith(() => ({ status: 307, type: "application/json", headers, script }));
  const { url } = await served.start();
  const answer = await post(url, ask);
  expect(answer.status).toBe(502);
  expect(await answer.json()).toMatchObject({ error: { code: "upstream_invalid" } });
});

test("one that ends takes no requests", async () => {
  const { proxy } = await served.start();
  proxy.abort();
  const answer = await proxy.fetch(asked(ask));
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ error: { code: "shutting_down" } });
  expect(served.upstream.asked).toEqual([]);
});
