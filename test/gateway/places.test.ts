import { describe, expect, test, vi } from "vitest";
import { serving } from "./serving.js";
import { chunk } from "./upstream.js";

const served = serving();
const ask = { model: "m", messages: [{ role: "user", content: "Hi" }] };

function post(url: string, body: object, path = "/v1/chat/completions", signal?: AbortSignal) {
  const headers = { "content-type": "application/json" };
  return fetch(url + path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

describe("the places of a request are free again", () => {
  test("where the model's server refuses it, in words or without", async () => {
    const { url, proxy } = await served.start();
    for (const body of [{ error: { message: "bad key", code: "invalid_api_key" } }, {}]) {
      served.upstream.json(body, 401);
      expect((await post(url, { ...ask, n: 3 })).status).toBe(401);
      await vi.waitFor(() => expect(proxy.streams).toBe(0));
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

  test("where its client leaves while the model says nothing", async () => {
    served.upstream.stream(chunk({ content: "one two" }), 60_000);
    const { url, proxy } = await served.start();
    const controller = new AbortController();
    const { body } = await post(url, { ...ask, stream: true }, undefined, controller.signal);
    await body?.getReader().read();
    controller.abort();
    expect(await served.upstream.asked[0].aborted).toBe(true);
    await vi.waitFor(() => expect(proxy.streams).toBe(0));
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
  const { url } = await served.start({}, { prompt: "Unsafe" });
  const answer = await post(url, { model: "m", input: "BAD", conversation: "conv_1" }, "/v1/responses");
  expect(answer.status).toBe(400);
  expect(served.upstream.asked).toEqual([]);
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

test("one that has begun to shut down takes no requests", async () => {
  const { proxy } = await served.start();
  proxy.drain();
  const headers = { "content-type": "application/json" };
  const asked = new Request("http://localhost/v1/chat/completions", {
    ...{ method: "POST", headers },
    body: JSON.stringify(ask),
  });
  const answer = await proxy.fetch(asked);
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ error: { code: "shutting_down" } });
  expect(served.upstream.asked).toEqual([]);
});
