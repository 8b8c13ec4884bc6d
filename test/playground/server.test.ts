import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Listening, listen } from "../../src/gateway/server.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { resolvePolicy } from "../../src/moderation/policy.js";
import { EXAMPLES } from "../../src/playground/examples.js";
import { describeGuard } from "../../src/playground/guard-info.js";
import type { RunEvent, RunRequest } from "../../src/playground/protocol.js";
import { PlaygroundServer } from "../../src/playground/server.js";
import { ruleRun } from "../../src/ui/playground/ruled.js";
import { reply, scriptedUpstream } from "../gateway/upstream.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const KEY = "sk-secret-of-the-tester";
const TURNS = EXAMPLES[2];

let guard: Guard;
let page: PlaygroundServer;
let server: Listening;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;

beforeAll(async () => {
  guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 2 });
  page = new PlaygroundServer(guard, describeGuard(guard, undefined));
  server = await listen(page, 0, "127.0.0.1");
  upstream = await scriptedUpstream();
});
afterAll(async () => {
  await server.close(0);
  await upstream.close();
  await guard.close();
});
beforeEach(() => {
  upstream.asked.length = 0;
});

const ask = (path: string, init: RequestInit = {}, token = page.token) =>
  fetch(`${server.url}${path}?token=${token}`, init);

async function run(request: RunRequest): Promise<RunEvent[]> {
  const response = await ask("/run", { method: "POST", body: JSON.stringify(request) });
  expect(response.status).toBe(200);
  return (await response.text())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

describe("who may use it", () => {
  test("the page opens with the address's token alone", async () => {
    expect((await ask("/")).status).toBe(200);
    for (const token of ["", "0", page.token.slice(1), `${page.token}0`]) {
      expect((await ask("/", {}, token)).status).toBe(403);
    }
  });

  test("every path wants the token", async () => {
    for (const path of ["/load", "/run", "/nothing"]) expect((await ask(path, {}, "x")).status).toBe(403);
  });

  test("another page's request is refused, with the token too", async () => {
    const init = { headers: { origin: "https://evil.example" } };
    expect((await ask("/load", init)).status).toBe(403);
    expect((await ask("/load", { headers: { origin: server.url } })).status).toBe(200);
  });

  test("a name that was bound to this machine is refused", async () => {
    const request = new Request(`http://evil.example/?token=${page.token}`, {
      headers: { host: "evil.example" },
    });
    expect((await page.fetch(request)).status).toBe(403);
  });
});

describe("a run", () => {
  test("tells the prompt's verdict, each chunk, each token's verdict and the end", async () => {
    const { messages, response } = TURNS;
    const events = await run({ messages, source: { kind: "text", text: response, perSecond: 0 } });
    expect(events.find(({ type }) => type === "prompt")).toMatchObject({
      verdict: { risk: "Safe" },
      turns: [{ role: "user", risk: "Safe" }],
    });
    const text = events.map((event) => (event.type === "chunk" ? event.text : "")).join("");
    expect(text).toBe(response);
    expect(events.at(-1)).toMatchObject({ type: "end", decision: { risk: "Unsafe" } });
  });

  test("judges what guard.moderate judges: the readers see what its gates let through", async () => {
    const { messages, response } = TURNS;
    const policy = resolvePolicy({}, guard.labels);
    const events = await run({ messages, source: { kind: "text", text: response, perSecond: 0 } });
    const ruled = ruleRun(events, policy);
    const gated = guard.moderate([response], { messages });
    let released = "";
    await expect(
      (async () => {
        for await (const part of gated) released += part;
      })(),
    ).rejects.toMatchObject({ index: ruled.violation?.index, category: ruled.violation?.category });
    expect(ruled.holdBack).toMatchObject({ state: "stopped", text: released });
    expect(ruled.streamFirst.text.startsWith(released)).toBe(true);
  });

  test("another policy rules on the same events without another run", async () => {
    const { messages, response } = TURNS;
    const events = await run({ messages, source: { kind: "text", text: response, perSecond: 0 } });
    const rule = (data: object) => ruleRun(events, resolvePolicy(data, guard.labels));
    expect(rule({}).violation).not.toBeNull();
    expect(rule({ action: "ignore" })).toMatchObject({
      violation: null,
      holdBack: { state: "complete", text: response },
    });
    expect(rule({ action: "observe" })).toMatchObject({ violation: null, holdBack: { text: response } });
    expect(rule({ debounce: 5 }).violation?.index).toBe((rule({}).violation?.index ?? 0) + 3);
    expect(ruleRun(events, null)).toMatchObject({
      violation: null,
      holdBack: { text: "", state: "waiting" },
    });
  });

  test("a blocked prompt shows neither reader anything", async () => {
    const messages = [{ role: "user" as const, content: EXAMPLES[4].messages[0].content }];
    const events = await run({ messages, source: { kind: "text", text: "Fine.", perSecond: 0 } });
    const always = { thresholds: { Unsafe: 0 }, prompt: {}, response: { action: "ignore" as const } };
    const ruled = ruleRun(events, resolvePolicy(always, guard.labels));
    expect(ruled).toMatchObject({
      promptRuling: { action: "block" },
      holdBack: { text: "", state: "stopped" },
      streamFirst: { text: "", state: "stopped" },
    });
  });

  test("an answer without text ends without a decision", async () => {
    const events = await run({ messages: TURNS.messages, source: { kind: "text", text: "", perSecond: 0 } });
    expect(events.at(-1)).toMatchObject({ type: "end", decision: null });
  });

  test("a run that fails says so by name, and frees its slot", async () => {
    upstream.json({ error: { message: `Incorrect key: ${KEY}` } }, 401);
    const events = await run({
      messages: TURNS.messages,
      source: { kind: "openai", url: upstream.url, model: "m", key: KEY },
    });
    expect(events.at(-1)).toMatchObject({ type: "failed", code: "ENDPOINT_REFUSED" });
    expect(JSON.stringify(events)).not.toContain(KEY);
    await idle(guard);
  });

  test("a page that leaves frees the slot", async () => {
    const controller = new AbortController();
    const response = await ask("/run", {
      method: "POST",
      body: JSON.stringify({
        messages: TURNS.messages,
        source: { kind: "text", text: "word ".repeat(2000), perSecond: 5 },
      }),
      signal: controller.signal,
    });
    await response.body?.getReader().read();
    expect(guard.load.active).toBe(1);
    controller.abort();
    await idle(guard);
  });

  test.each([
    ["no JSON", "{"],
    ["no turn", JSON.stringify({ messages: [], source: {} })],
    ["an unknown role", JSON.stringify({ messages: [{ role: "x", content: "" }], source: {} })],
    ["an unknown source", JSON.stringify({ messages: TURNS.messages, source: { kind: "ftp" } })],
    [
      "an absurd pace",
      JSON.stringify({ messages: TURNS.messages, source: { kind: "text", text: "", perSecond: -1 } }),
    ],
  ])("%s is refused", async (_, body) => {
    const response = await ask("/run", { method: "POST", body });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "REQUEST_INVALID" });
  });
});

describe("an endpoint", () => {
  test("of OpenAI's kind gets the conversation and the key; its answer is judged", async () => {
    upstream.stream(...reply("Mix flour", " and water."));
    const source = { kind: "openai" as const, url: `${upstream.url}/v1`, model: "m", key: KEY };
    const events = await run({ messages: TURNS.messages, source });
    expect(events.at(-1)).toMatchObject({ type: "end", decision: { risk: "Safe" } });
    const [asked] = upstream.asked;
    expect(asked.path).toBe("/v1/chat/completions");
    expect(asked.headers.authorization).toBe(`Bearer ${KEY}`);
    expect(JSON.parse(asked.body)).toEqual({ model: "m", messages: TURNS.messages, stream: true });
  });

  test("of Ollama's kind is asked in its own way", async () => {
    const lines = ["Mix flour", " and water."].map((content) => JSON.stringify({ message: { content } }));
    upstream.answerWith(() => ({
      type: "application/x-ndjson",
      script: [
        `${lines.join("\n")}\n${JSON.stringify({ message: { content: "" }, done: true, done_reason: "stop" })}\n`,
      ],
    }));
    const events = await run({
      messages: TURNS.messages,
      source: { kind: "ollama", url: upstream.url, model: "m" },
    });
    expect(events.at(-1)).toMatchObject({ type: "end", decision: { risk: "Safe" } });
    expect(upstream.asked[0].path).toBe("/api/chat");
    expect(upstream.asked[0].headers.authorization).toBeUndefined();
  });

  test("that sends elsewhere is not followed: neither conversation nor key leaves for another address", async () => {
    upstream.stream(...reply("Fine."));
    const elsewhere = createServer((_, response) => {
      response.writeHead(307, { location: `${upstream.url}/v1/chat/completions` }).end();
    });
    elsewhere.listen(0, "127.0.0.1");
    await once(elsewhere, "listening");
    const { port } = elsewhere.address() as AddressInfo;
    const source = { kind: "openai" as const, url: `http://127.0.0.1:${port}`, model: "m", key: KEY };
    const events = await run({ messages: TURNS.messages, source });
    expect(events.at(-1)).toMatchObject({ type: "failed", code: "ENDPOINT_UNREACHABLE" });
    expect(upstream.asked).toEqual([]);
    elsewhere.closeAllConnections();
    elsewhere.close();
  });

  test("needs an address of http or https", async () => {
    const source = { kind: "openai" as const, url: "file:///etc/passwd", model: "m" };
    const events = await run({ messages: TURNS.messages, source });
    expect(events.at(-1)).toMatchObject({ type: "failed", code: "ENDPOINT_INVALID" });
  });
});
