import { afterEach, beforeEach, expect, test } from "vitest";
import { GuardProxy, type LogEntry, type ProxyOptions } from "../../../src/gateway/proxy.js";
import { ScriptedStream, scriptedGuard } from "../../gate/scripted.js";
import { chunk, reply, scriptedUpstream } from "../upstream.js";

const PRIVATE = "PRIVATE words of somebody";
const messages = [{ role: "user", content: PRIVATE }];

let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
let log: LogEntry[];

beforeEach(async () => {
  upstream = await scriptedUpstream();
  upstream.json({
    choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "Fine." } }],
  });
  log = [];
});
afterEach(async () => {
  await upstream.close();
  await expect.poll(() => ScriptedStream.open).toBe(0);
});

function start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof scriptedGuard>[0] = {}) {
  const { guard } = scriptedGuard(script);
  return new GuardProxy(guard, { upstream: upstream.url, log: (entry) => log.push(entry), ...options });
}

async function send(
  proxy: GuardProxy,
  body: unknown,
  path = "/v1/chat/completions",
  headers = {},
): Promise<string> {
  const answer = await proxy.fetch(
    new Request(`http://localhost${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${PRIVATE}`, ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    }),
  );
  return answer.text();
}

async function entry(): Promise<LogEntry> {
  await expect.poll(() => log).toHaveLength(1);
  return log[0];
}

test.each<[string, unknown, string?]>([
  ["a role", { messages: [{ role: PRIVATE, content: "Hi" }] }],
  ["a number of choices", { messages, n: PRIVATE }],
  ["a part's type", { messages: [{ role: "user", content: [{ type: PRIVATE }] }] }],
  ["a field's name", { messages, [PRIVATE]: "x" }],
  ["a field's name in other letters", { messages, Messages: PRIVATE }],
  ["a call", { messages: [{ role: "assistant", tool_calls: [PRIVATE] }] }],
  ["an item's type", { input: [{ type: PRIVATE }] }, "/v1/responses"],
  ["a body that is no JSON", `{"messages": ${PRIVATE}`],
  ["a path", { messages }, `/v1/${encodeURIComponent(PRIVATE)}`],
  ["a query", { messages }, `/v1/chat/completions?key=${encodeURIComponent(PRIVATE)}`],
  ["a model", { messages, model: PRIVATE }],
  ["a model to moderate with", { input: PRIVATE, model: PRIVATE }, "/v1/moderations"],
])("%s is not in the log", async (_, body, path) => {
  await send(start(), body, path);
  await entry();
  expect(JSON.stringify(log)).not.toContain("PRIVATE");
});

test.each<[string, object]>([
  ["a stream's error", { error: { message: PRIVATE, code: PRIVATE, type: PRIVATE } }],
  ["a role", chunk({ role: PRIVATE, content: "Hi" })],
  ["a finish reason", chunk({}, PRIVATE)],
  ["an event of unknown kind", { object: PRIVATE, choices: [{ index: 0, delta: { [PRIVATE]: PRIVATE } }] }],
])("%s of the server's is not in the log", async (_, event) => {
  upstream.stream(chunk({ content: "Hi" }), event, "[DONE]");
  await send(start(), { messages, stream: true });
  await entry();
  expect(JSON.stringify(log)).not.toContain("PRIVATE");
});

test.each([400, 401, 429, 500])("an answer with status %i is not in the log", async (status) => {
  upstream.json({ error: { message: PRIVATE, code: PRIVATE, type: "x", param: PRIVATE } }, status);
  await send(start(), { messages });
  await entry();
  expect(JSON.stringify(log)).not.toContain("PRIVATE");
});

test("what the guard fails of is in the log by its place in the code", async () => {
  const failing = start({}, () => ({ promptAfter: Promise.reject(new TypeError(PRIVATE)) }));
  await send(failing, { messages });
  expect((await entry()).error).toMatchObject({
    code: "internal_error",
    kind: "TypeError",
    at: expect.stringMatching(/\.ts:\d+$/),
  });
  expect(JSON.stringify(log)).not.toContain("PRIVATE");
});

test("flagged text is in the log only where that is asked for", async () => {
  for (const logText of [false, true]) {
    log = [];
    upstream.stream(...reply("so BAD BAD"));
    await send(start({ logText }), { messages: [{ role: "user", content: "Hi" }], stream: true });
    expect(JSON.stringify(await entry()).includes("BAD")).toBe(logText);
  }
});

test("a model is named by an identifier, another by its hash and length", async () => {
  for (const model of ["Qwen/Qwen3-8B:free", "M".repeat(100_000), { a: PRIVATE }])
    await send(start(), { messages, model });
  await expect.poll(() => log).toHaveLength(3);
  expect(log.map(({ model }) => model)).toEqual([
    "Qwen/Qwen3-8B:free",
    expect.stringMatching(/^sha256:[0-9a-f]{16} \(100000 characters\)$/),
    null,
  ]);
});

test("a request's id is the client's where it is an identifier", async () => {
  const proxy = start();
  for (const id of ["req_1-a", "x".repeat(1000), "two words"]) {
    await send(proxy, { messages }, undefined, { "x-request-id": id });
  }
  await expect.poll(() => log).toHaveLength(3);
  expect(log[0].requestId).toBe("req_1-a");
  for (const { requestId } of log.slice(1)) expect(requestId).toMatch(/^[0-9a-f-]{36}$/);
});

test("what nobody judged is logged and counted", async () => {
  const proxy = start({ policy: { unjudged: "pass", attachments: "ignore" }, allowPaths: ["/v1/rerank"] });
  const parts = [
    { type: "image_url", image_url: {} },
    { type: "poem", poem: "x" },
  ];
  await send(proxy, { messages: [{ role: "user", content: ["Hi", ...parts] }], extra: "x" });
  await send(proxy, { query: PRIVATE }, "/v1/rerank");
  await expect.poll(() => log).toHaveLength(2);
  const judged = log.find(({ endpoint }) => endpoint === "/chat/completions");
  expect(judged).toMatchObject({ end: "passed", unjudged: { attachment: 1, part: 1, field: 1 } });
  const passed = log.find(({ endpoint }) => endpoint === "/v1/rerank");
  expect(passed).toMatchObject({ end: "unjudged", unjudged: { path: 1 }, error: null });
  const metrics = await (await proxy.fetch(new Request("http://localhost/metrics"))).text();
  for (const kind of ["attachment", "part", "field", "path"]) {
    expect(metrics).toContain(`qwen3guard_unjudged_total{kind="${kind}"} 1`);
  }
  expect(metrics).toContain('qwen3guard_requests_total{endpoint="/v1/rerank",end="unjudged"} 1');
});

test("what passes of an answer that nobody judged is logged and counted as well", async () => {
  const message = { role: "assistant", content: "Fine.", said: PRIVATE, sung: PRIVATE };
  upstream.json({ choices: [{ index: 0, finish_reason: "stop", message }] });
  await send(start({ policy: { unjudged: "pass" } }), { messages });
  expect(await entry()).toMatchObject({ end: "passed", unjudged: { field: 2 }, leftOut: 0 });
  expect(JSON.stringify(log)).not.toMatch(/PRIVATE|said|sung/);
});

test("what is left out of an answer is counted, by names and types, and not told", async () => {
  const part = { type: "poem", poem: PRIVATE };
  const content = [{ type: "text", text: "Fine." }, part, part];
  upstream.json({
    choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content, said: PRIVATE } }],
    token_ids: [1, 2],
    nothing: "",
  });
  const proxy = start();
  await send(proxy, { messages });
  expect(await entry()).toMatchObject({ end: "passed", unjudged: {}, leftOut: 3 });
  expect(JSON.stringify(log)).not.toMatch(/PRIVATE|poem|said|token_ids/);
  const metrics = await (await proxy.fetch(new Request("http://localhost/metrics"))).text();
  expect(metrics).toContain("qwen3guard_left_out_total 3");
});

test("what is refused is counted by its code", async () => {
  const proxy = start();
  await send(proxy, { messages, extra: "x" });
  await send(proxy, {}, "/v1/rerank");
  await send(proxy, { messages }, "/v1/chat/completions", { origin: "https://evil.example" });
  await expect.poll(() => log).toHaveLength(3);
  expect(log.every(({ end }) => end === "refused")).toBe(true);
  const metrics = await (await proxy.fetch(new Request("http://localhost/metrics"))).text();
  for (const code of ["field_unjudged", "path_refused", "origin_refused"]) {
    expect(metrics).toContain(`qwen3guard_refused_total{code="${code}"} 1`);
  }
});
