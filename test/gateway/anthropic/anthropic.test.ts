import Anthropic, { APIError, AuthenticationError, BadRequestError } from "@anthropic-ai/sdk";
import { describe, expect, test } from "vitest";
import type { ProxyOptions } from "../../../src/gateway/proxy.js";
import { deferred } from "../../../src/moderation/deferred.js";
import { serving } from "../serving.js";

const proxied = serving();
const ask = {
  model: "claude-x",
  max_tokens: 100,
  messages: [{ role: "user" as const, content: "Hi there" }],
};
const message = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "claude-x",
  content: [],
  stop_reason: null,
  stop_sequence: null,
  usage: { input_tokens: 9, output_tokens: 1, service_tier: "standard" },
};
const block = (index: number, type: string, delta: object, ...rest: object[]) => [
  { type: "content_block_start", index, content_block: { type, ...delta } },
  ...rest.map((delta) => ({ type: "content_block_delta", index, delta })),
  { type: "content_block_stop", index },
];
const text = (index: number, ...texts: string[]) =>
  block(index, "text", { text: "" }, ...texts.map((text) => ({ type: "text_delta", text })));
const ends = (stop_reason = "end_turn") => [
  { type: "message_delta", delta: { stop_reason, stop_sequence: null }, usage: { output_tokens: 7 } },
  { type: "message_stop" },
];
const event = (own: { type: string }) => `event: ${own.type}\ndata: ${JSON.stringify(own)}\n\n`;

function streams(...events: (object | number | "die" | Promise<void>)[]) {
  proxied.upstream.answerWith(() => ({
    script: [{ type: "message_start", message }, ...events].map((own) =>
      typeof own === "object" && !(own instanceof Promise) ? event(own as { type: string }) : own,
    ),
  }));
}

async function start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof proxied.start>[1] = {}) {
  const started = await proxied.start(options, script);
  const client = new Anthropic({ baseURL: started.url, apiKey: "sk-ant-secret", maxRetries: 0 });
  return { ...started, client };
}

/** What the client's own reader makes of a stream. */
async function read(client: Anthropic, request: object = {}) {
  const stream = client.messages.stream({ ...ask, ...request });
  stream.on("error", () => {});
  const types: string[] = [];
  let error: unknown = null;
  try {
    for await (const event of stream) types.push(event.type);
  } catch (caught) {
    error = caught;
  }
  return { types, error, message: error ? null : await stream.finalMessage() };
}

describe("a stream", () => {
  test("of thinking, text and a tool's call comes out whole", async () => {
    streams(
      ...block(
        0,
        "thinking",
        { thinking: "", signature: "" },
        { type: "thinking_delta", thinking: "A greet" },
        { type: "thinking_delta", thinking: "ing." },
        { type: "signature_delta", signature: "c2ln" },
      ),
      { type: "ping" },
      ...text(1, "Hel", "lo, all", " is well."),
      ...block(
        2,
        "tool_use",
        { id: "toolu_1", name: "weather", input: {} },
        { type: "input_json_delta", partial_json: '{"city":' },
        { type: "input_json_delta", partial_json: '"Oslo"}' },
      ),
      ...ends("tool_use"),
    );
    const { client } = await start();
    const { message: got } = await read(client);
    expect(got?.content).toEqual([
      { type: "thinking", thinking: "A greeting.", signature: "c2ln" },
      { type: "text", text: "Hello, all is well." },
      { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo" } },
    ]);
    expect(got).toMatchObject({ id: "msg_1", model: "claude-x", stop_reason: "tool_use" });
    expect(got?.usage).toMatchObject({ input_tokens: 9, output_tokens: 7, service_tier: "standard" });
    const [asked] = proxied.upstream.asked;
    expect(asked.path).toBe("/v1/messages");
    expect(asked.headers).toHaveProperty("anthropic-version");
    expect(JSON.stringify(asked.headers)).toContain("sk-ant-secret");
    expect(JSON.stringify(proxied.log)).not.toContain("sk-ant-secret");
    expect(await proxied.logged()).toMatchObject({ end: "passed", endpoint: "/v1/messages", stream: true });
  });

  test.each(["hold-back", "stream-first"] as const)(
    "%s: a flagged one closes its block and ends as a refusal, and the model is stopped",
    async (mode) => {
      streams(...text(0, "so ", "far ", "BAD ", "BAD ", "more ").slice(0, -1), Number.POSITIVE_INFINITY);
      const { client } = await start({ mode });
      const { types, message: got } = await read(client);
      expect(got).toMatchObject({
        stop_reason: "refusal",
        stop_details: { type: "refusal", category: null, explanation: expect.stringContaining("Violent") },
      });
      const said = got?.content[0].type === "text" ? got.content[0].text : null;
      if (mode === "hold-back") expect(said).toBe("so far");
      expect(types.slice(-3)).toEqual(["content_block_stop", "message_delta", "message_stop"]);
      expect(await proxied.upstream.asked[0].aborted).toBe(true);
      const entry = await proxied.logged();
      expect(entry).toMatchObject({ end: "flagged", status: 200 });
      expect(entry.violations).toHaveLength(1);
    },
  );

  test("flagged thinking never reaches the client", async () => {
    streams(
      ...block(0, "thinking", { thinking: "" }, { type: "thinking_delta", thinking: "I BAD BAD plan" }),
      ...text(1, "Fine."),
      ...ends(),
    );
    const { client } = await start();
    const { message: got } = await read(client);
    expect(JSON.stringify(got)).not.toMatch(/BAD|Fine/);
    expect(got?.stop_reason).toBe("refusal");
  });

  test("a text in a block's beginning is judged, and comes as a delta", async () => {
    streams(...block(0, "text", { text: "Hello" }, { type: "text_delta", text: " you" }), ...ends());
    const { client } = await start();
    const { message: got } = await read(client);
    expect(got?.content).toEqual([{ type: "text", text: "Hello you" }]);
  });

  test("blocks that go on in one another are read as one text", async () => {
    streams(...text(0, "It is B"), ...text(1, "AD BAD indeed"), ...ends());
    const { client } = await start();
    const { message: got } = await read(client);
    expect(got?.stop_reason).toBe("refusal");
    expect(JSON.stringify(got)).not.toContain("AD");
  });

  test("an error in it is told as one, in the server's words where the guard lets them pass", async () => {
    streams(...text(0, "Hello there "), {
      type: "error",
      error: { type: "overloaded_error", message: "Busy." },
    });
    const { client } = await start();
    const { error } = await read(client);
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ type: "overloaded_error" });
    expect(String(error)).toContain("Busy.");
    expect(await proxied.logged()).toMatchObject({ end: "failed", error: { code: "upstream_error" } });
  });

  test("one that breaks off is an error, after what was judged", async () => {
    streams(...text(0, "Hello there ").slice(0, -1), "die");
    const { client } = await start();
    const { error, types } = await read(client);
    expect(types).toContain("content_block_delta");
    expect(error).toMatchObject({ type: "api_error", errorCode: "upstream_failed" });
  });

  test("pings keep it open while nothing else is sent", async () => {
    const pinged = deferred<void>();
    streams(...text(0, "Hello"), pinged.promise, ...ends());
    const { url } = await start({ keepAlive: 0.02 });
    const body = JSON.stringify({ ...ask, stream: true });
    const response = await fetch(`${url}/v1/messages`, {
      method: "POST",
      body,
      headers: { "content-type": "application/json" },
    });
    let answer = "";
    for await (const piece of (response.body as ReadableStream).pipeThrough(new TextDecoderStream())) {
      answer += piece;
      if (answer.includes('event: ping\ndata: {"type":"ping"}\n\n')) pinged.resolve();
    }
    expect(answer).toContain("message_stop");
  });
});

describe("a whole answer", () => {
  const content = [
    { type: "thinking", thinking: "A greeting.", signature: "c2ln" },
    { type: "text", text: "Hello there.", citations: null },
    { type: "redacted_thinking", data: "b3BhcXVl" },
    { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo" }, caller: { type: "direct" } },
  ];
  const whole = { ...message, content, stop_reason: "tool_use" };

  test("comes out as it was", async () => {
    proxied.upstream.json(whole);
    const { client } = await start();
    const { _request_id, ...got } = await client.messages.create(ask);
    expect(got).toEqual(whole);
  });

  test("a flagged one is cut, says that it is a refusal, and keeps nothing but its texts", async () => {
    const flagged = [content[0], { type: "text", text: "so far BAD BAD more" }, content[3]];
    proxied.upstream.json({ ...whole, content: flagged });
    const { client } = await start();
    const got = await client.messages.create(ask);
    expect(got.content).toEqual([
      { type: "thinking", thinking: "A greeting.", signature: "" },
      { type: "text", text: "so far", citations: null },
    ]);
    expect(got).toMatchObject({ stop_reason: "refusal", stop_details: { type: "refusal" } });
    expect(got).toHaveProperty("qwen3guard.category", "Violent");
  });

  test("a refusal of the server's keeps its status and its kind", async () => {
    proxied.upstream.json(
      { type: "error", error: { type: "authentication_error", message: "Bad key." } },
      401,
    );
    const { client } = await start();
    const error = await client.messages.create(ask).catch((caught) => caught);
    expect(error).toBeInstanceOf(AuthenticationError);
    expect(error).toMatchObject({ type: "authentication_error", apiMessage: "Bad key." });
  });

  test("what is no message is an error", async () => {
    proxied.upstream.json({ choices: [{ message: { content: "Hello" } }] });
    const { client } = await start();
    const error = await client.messages.create(ask).catch((caught) => caught);
    expect(error).toMatchObject({ status: 502, type: "api_error", errorCode: "upstream_invalid" });
  });
});

describe("a blocked prompt", () => {
  test.each([true, false])("is refused in the protocol's own way (stream: %s)", async (stream) => {
    streams(...text(0, "Hello"), ...ends());
    const { client } = await start({ promptFirst: true }, { prompt: "Unsafe" });
    const got = stream ? (await read(client)).message : await client.messages.create(ask);
    expect(got).toMatchObject({ content: [], stop_reason: "refusal", stop_details: { type: "refusal" } });
    expect(proxied.upstream.asked).toHaveLength(0);
    expect(await proxied.logged()).toMatchObject({ end: "blocked", status: 200 });
  });

  test.each([true, false])("is answered with the replacement (stream: %s)", async (stream) => {
    streams(...text(0, "Hello"), ...ends());
    const policy = { replacement: { Violent: "Let us talk of something else." } };
    const { client } = await start({ policy }, { prompt: "Unsafe" });
    const got = stream ? (await read(client)).message : await client.messages.create(ask);
    expect(got?.content).toMatchObject([{ type: "text", text: "Let us talk of something else." }]);
    expect(got?.stop_reason).toBe("refusal");
  });
});

test("a flagged stream goes on with the replacement in a block of its own", async () => {
  streams(...text(0, "so far ", "BAD BAD"), ...ends());
  const { client } = await start({ replacement: "Sorry." });
  const { message: got } = await read(client);
  expect(got?.content.map((own) => own.type === "text" && own.text)).toEqual(["so far", "Sorry."]);
  expect(got?.stop_reason).toBe("refusal");
});

test("what the proxy refuses is told as the API's errors are", async () => {
  const { client, url } = await start();
  const unknown = { ...ask, messages: [{ role: "user", content: [{ type: "hologram" }] }] };
  const error = await client.messages.create(unknown as unknown as typeof ask).catch((caught) => caught);
  expect(error).toBeInstanceOf(BadRequestError);
  expect(error).toMatchObject({ type: "invalid_request_error", errorCode: "part_unjudged" });
  expect(error.apiMessage).toContain('of the type "hologram"');
  const response = await fetch(`${url}/v1/messages`);
  expect(response.status).toBe(405);
  expect(await response.json()).toMatchObject({ type: "error", error: { type: "invalid_request_error" } });
});

test("tokens may be counted: nothing of a model's comes back", async () => {
  proxied.upstream.json({ input_tokens: 7 });
  const { client } = await start();
  expect(await client.messages.countTokens({ model: "claude-x", messages: ask.messages })).toMatchObject({
    input_tokens: 7,
  });
  await expect.poll(() => proxied.log[0]).toMatchObject({ end: "unjudged", endpoint: "/count_tokens" });
});
