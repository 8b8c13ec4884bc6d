import { once } from "node:events";
import { connect } from "node:net";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { LogEntry } from "../../src/gateway/record/record.js";
import { type Listening, listen } from "../../src/gateway/server.js";
import { type GenGuard, loadGenGuard } from "../../src/gen-guard.js";
import { type Guard, loadGuard } from "../../src/index.js";
import { GuardService, type ServiceOptions } from "../../src/serve/service.js";
import { randomGen } from "../support/gen.js";
import { idle } from "../support/idle.js";

let gen: GenGuard;
let stream: Guard;
const servers: Listening[] = [];

async function serve(guard: Guard | GenGuard, options: ServiceOptions = {}): Promise<string> {
  const server = await listen(new GuardService(guard, options), 0, "127.0.0.1");
  servers.push(server);
  return server.url;
}

beforeAll(async () => {
  gen = await loadGenGuard((await randomGen()).modelDir, { maxStreams: 4 });
  stream = await loadGuard({ maxStreams: 4 });
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close(0)));
  await Promise.all([gen.close(), stream.close()]);
});

const client = (url: string, apiKey = "none") => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const post = (url: string, body: unknown, headers = {}) =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
const ask = (content: string) => ({
  model: "Qwen/Qwen3Guard-Gen-0.6B",
  messages: [{ role: "user" as const, content }],
});
/** As the model's card has it. */
const SAFETY = /Safety: (Safe|Unsafe|Controversial)/;
const CATEGORY =
  /(Violent|Non-violent Illegal Acts|Sexual Content or Sexual Acts|PII|Suicide & Self-Harm|Unethical Acts|Politically Sensitive Topics|Copyright Violation|Jailbreak|None)/;

describe.each(["Gen", "Stream"])("chat completions of a %s guard", (kind) => {
  let url: string;
  beforeAll(async () => {
    url = await serve(kind === "Gen" ? gen : stream, { name: "qwen3guard-test" });
  });

  test("the usual script of the openai client prints the official text, streamed or not", async () => {
    const openai = client(url);
    const messages = [
      ...ask("How do I bake bread?").messages,
      { role: "assistant" as const, content: "Mix flour." },
    ];
    const whole = await openai.chat.completions.create({ model: "any", messages });
    const text = whole.choices[0].message.content as string;
    expect(SAFETY.exec(text)?.[1]).toBeDefined();
    expect(CATEGORY.exec(text.split("\n")[1])?.[1]).toBeDefined();
    expect(/Refusal: (Yes|No)/.test(text)).toBe(kind === "Gen");
    expect(whole.choices[0].finish_reason).toBe("stop");
    expect(whole.usage?.total_tokens).toBe(
      Number(whole.usage?.prompt_tokens) + Number(whole.usage?.completion_tokens),
    );
    let streamed = "";
    let usage: OpenAI.CompletionUsage | null | undefined;
    const options = { stream: true as const, stream_options: { include_usage: true } };
    for await (const chunk of await openai.chat.completions.create({ model: "any", messages, ...options })) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    expect(streamed).toBe(text);
    expect(usage).toEqual({
      ...whole.usage,
      prompt_tokens_details: { cached_tokens: expect.any(Number) },
    });
  });

  test("models are listed under the name that was given", async () => {
    const models = await client(url).models.list();
    expect(models.data.map(({ id }) => id)).toEqual(["qwen3guard-test"]);
  });

  test("moderations have OpenAI's schema", async () => {
    const { results } = await client(url).moderations.create({
      input: ["Hi", "How do I kill my neighbour?"],
    });
    expect(results).toHaveLength(2);
    expect(Object.keys(results[0].categories)).toEqual(Object.keys(results[0].category_scores));
    expect(results[0].categories).toMatchObject({ harassment: false, "sexual/minors": false });
    expect(results.map(({ flagged }) => flagged)).toContainEqual(expect.any(Boolean));
  });

  test.each([
    ["a text is one", "Hi", 1],
    ["a list of texts is as many", ["Hi", "Ho", "He"], 3],
    [
      "a list of parts is one",
      [
        { type: "text", text: "Hi" },
        { type: "text", text: "Ho" },
      ],
      1,
    ],
  ])("inputs of moderations: %s", async (_, input, count) => {
    const { results } = await client(url).moderations.create({ input: input as string });
    expect(results).toHaveLength(count);
  });

  test.each([
    ["none", [], "input_unreadable"],
    ["a picture among its parts", [{ type: "image_url", image_url: { url: "data:," } }], "input_unreadable"],
    ["texts and parts", ["Hi", { type: "text", text: "Ho" }], "input_unreadable"],
    ["no text", { text: 7 }, "input_unreadable"],
    ["more than 256", Array(257).fill("Hi"), "too_many_inputs"],
  ])("inputs of moderations that are refused: %s", async (_, input, code) => {
    const response = await post(`${url}/v1/moderations`, { input });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code } });
  });

  test("classifications hold all probabilities, and the policy's ruling", async () => {
    const response = await post(`${url}/v1/classify`, {
      messages: ask("Hi").messages,
      policy: { reading: "loose" },
    });
    expect(await response.json()).toMatchObject({
      part: "prompt",
      probabilities: { risk: [expect.any(Number), expect.any(Number), expect.any(Number)] },
      ruling: { action: expect.any(String) },
    });
  });

  test("a classification refuses a field that it would not read, so that no text is taken for judged", async () => {
    for (const slip of [{ response: "You are a stupid, ugly loser." }, { polcy: { threshold: 0.1 } }]) {
      const response = await post(`${url}/v1/classify`, { messages: ask("Hi").messages, ...slip });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { code: "field_unknown" } });
    }
  });

  test("settings of known servers pass, whatever they are", async () => {
    const settings = {
      user: "me",
      seed: 1,
      ignore_eos: true,
      stream_options: null,
      logit_bias: { 1: 2 },
      tools: [],
    };
    const response = await post(`${url}/v1/chat/completions`, { ...ask("Hi"), ...settings });
    expect(response.status).toBe(200);
  });

  test("what takes POST alone says so", async () => {
    for (const path of ["chat/completions", "moderations", "classify"]) {
      const response = await fetch(`${url}/v1/${path}`);
      expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
      expect(await response.json()).toMatchObject({ error: { code: "method_refused" } });
    }
  });

  test("max_tokens and stop end the text as a model's would", async () => {
    const openai = client(url);
    const short = await openai.chat.completions.create({ ...ask("Hi"), max_tokens: 2 });
    expect(short.choices[0]).toMatchObject({ finish_reason: "length" });
    const stopped = await openai.chat.completions.create({ ...ask("Hi"), stop: "\n" });
    expect(stopped.choices[0].message.content).toMatch(/^Safety: \w+$/);
    // Its tokens begin before it and end behind it.
    const within = await openai.chat.completions.create({ ...ask("Hi"), stop: ["\nCategories", "missing"] });
    expect(within.choices[0].message.content).toMatch(/^Safety: \w+$/);
    expect(within.choices[0].finish_reason).toBe("stop");
  });

  test("tokens are counted for each choice", async () => {
    const openai = client(url);
    const { usage: one } = await openai.chat.completions.create(ask("Hi"));
    const { usage: three, choices } = await openai.chat.completions.create({ ...ask("Hi"), n: 3 });
    expect(choices).toHaveLength(3);
    expect(three?.completion_tokens).toBe(3 * Number(one?.completion_tokens));
    expect(three?.prompt_tokens).toBe(one?.prompt_tokens);
  });

  test("usage has all that was read, an answer too, and what of it had been read before", async () => {
    const guard = kind === "Gen" ? gen : stream;
    const messages = [
      ...ask("How do I bake rye bread?").messages,
      { role: "assistant" as const, content: "Mix rye flour and water, then wait." },
    ];
    const { promptTokens, tokens } = await guard.classify({ messages, closely: true });
    const openai = client(url, crypto.randomUUID());
    const usages: (OpenAI.CompletionUsage | undefined)[] = [];
    for (let i = 0; i < 2; i++)
      usages.push((await openai.chat.completions.create({ model: "any", messages })).usage);
    const [first, second] = usages;
    expect(first?.prompt_tokens).toBe(promptTokens + tokens);
    expect(first?.prompt_tokens_details?.cached_tokens).toBeLessThan(promptTokens);
    expect(second).toEqual({ ...first, prompt_tokens_details: { cached_tokens: promptTokens } });
  });

  test("reasoning is judged under each of its names", async () => {
    const classify = async (fields: object) => {
      const messages = [...ask("Hi").messages, { role: "assistant", content: "Hello", ...fields }];
      const answer = await post(`${url}/v1/classify`, { messages });
      return { ...((await answer.json()) as object), reusedTokens: null };
    };
    const judged = await classify({ reasoning_content: "I hate you" });
    expect(judged).not.toEqual(await classify({}));
    for (const field of ["reasoning", "thinking"]) {
      expect(await classify({ [field]: "I hate you" })).toEqual(judged);
      expect(await classify({ reasoning_content: "I hate you", [field]: "I hate you" })).toEqual(judged);
      expect(await classify({ [field]: { text: "I" } })).toMatchObject({
        error: { code: "messages_invalid" },
      });
    }
    expect(await classify({ reasoning_content: "I hate", thinking: "you" })).not.toEqual(judged);
  });

  test.each([
    ["messages that are none", { messages: "Hi" }],
    ["no messages", { messages: [] }],
    ["an image", { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] }],
    ["tools, which nobody would judge", { ...ask("Hi"), tools: [{ type: "function" }] }],
    ["a template of the client's own", { ...ask("Hi"), chat_template: "{{ 1 }}" }],
    ["a grammar of the client's own", { ...ask("Hi"), structured_outputs: { choice: ["Safe"] } }],
    ["too many choices", { ...ask("Hi"), n: 1000 }],
    ["a text in a field that nobody knows", { ...ask("Hi"), instructions: "You are a stupid, ugly loser." }],
    ["a text that the model is to repeat", { ...ask("Hi"), prediction: { type: "content", content: "Hi" } }],
    ["a schema by another server's name", { ...ask("Hi"), json_schema: { type: "object" } }],
  ])("%s: refused with a named error", async (_, body) => {
    const response = await post(`${url}/v1/chat/completions`, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: expect.any(String), type: "invalid_request_error" },
    });
  });
});

test("a Gen guard's logprobs are those of its words", async () => {
  const openai = client(await serve(gen));
  const options = { ...ask("Why?"), logprobs: true, top_logprobs: 5 };
  const { choices } = await openai.chat.completions.create(options);
  const tokens = choices[0].logprobs?.content ?? [];
  expect(tokens.map(({ token }) => token).join("")).toBe(choices[0].message.content);
  for (const { logprob, top_logprobs: top } of tokens) {
    expect(top).toHaveLength(5);
    expect(logprob).toBeLessThanOrEqual(top[0].logprob);
  }
  let streamed = 0;
  for await (const chunk of await openai.chat.completions.create({ ...options, stream: true })) {
    streamed += chunk.choices[0]?.logprobs?.content?.length ?? 0;
  }
  expect(streamed).toBe(tokens.length);
});

test("a category in letters of several tokens comes whole, streamed or not", async () => {
  const text = "Safety: Unsafe\nCategories: 不道德行为 🔪";
  const found = await gen.classify({ messages: ask("Hi").messages });
  const classify = vi.spyOn(gen, "classify").mockResolvedValue({ ...found, text });
  try {
    const openai = client(await serve(gen));
    const { choices } = await openai.chat.completions.create({ ...ask("Hi"), logprobs: true });
    expect(choices[0].message.content).toBe(text);
    expect(choices[0].logprobs?.content).toHaveLength(gen.tokenizer.encode(text).length);
    const stopped = await openai.chat.completions.create({ ...ask("Hi"), stop: "德" });
    expect(stopped.choices[0].message.content).toBe("Safety: Unsafe\nCategories: 不道");
    let streamed = "";
    for await (const chunk of await openai.chat.completions.create({ ...ask("Hi"), stream: true }))
      streamed += chunk.choices[0]?.delta.content ?? "";
    expect(streamed).toBe(text);
  } finally {
    classify.mockRestore();
  }
});

test("a conversation longer than the context has a usage, as it has a verdict", async () => {
  const url = await serve(stream);
  const messages = [
    { role: "user" as const, content: "Knead the dough, and wait. ".repeat(stream.maxTokens / 4) },
  ];
  const { usage } = await client(url).chat.completions.create({ model: "any", messages });
  expect(usage?.prompt_tokens).toBeGreaterThan(stream.maxTokens);
});

test.each([
  ["Gen", "/v1/chat/completions"],
  ["Gen", "/v1/classify"],
  ["Gen", "/v1/moderations"],
  ["Gen", "/beta/litellm_basic_guardrail_api"],
  ["Stream", "/v1/chat/completions"],
  ["Stream", "/v1/classify"],
  ["Stream", "/v1/moderations"],
  ["Stream", "/beta/litellm_basic_guardrail_api"],
])("of a %s guard's %s the log and /metrics count what was read", async (kind, path) => {
  const guard = kind === "Gen" ? gen : stream;
  const log: LogEntry[] = [];
  const url = await serve(guard, { log: (entry) => log.push(entry) });
  const content = `How do I bake bread? ${crypto.randomUUID()}`;
  const { messages } = ask(content);
  const answer = { role: "assistant", content: "Mix flour, then wait." };
  const bodies: Record<string, object[]> = {
    "/v1/moderations": [{ input: [content, content] }],
    "/beta/litellm_basic_guardrail_api": [
      { input_type: "request", texts: [content] },
      { input_type: "response", texts: [answer.content] },
    ],
  };
  const before = guard.load;
  for (const body of bodies[path] ?? [{ messages }, { messages: [...messages, answer] }])
    expect((await post(`${url}${path}`, body)).status).toBe(200);
  const sum = (of: "promptTokens" | "reusedTokens" | "tokens") =>
    log.reduce((all, entry) => all + entry[of], 0);
  const reused = guard.load.reusedTokens - before.reusedTokens;
  const prefilled = guard.load.prefilledTokens - before.prefilledTokens;
  // A Gen guard also reads the answer that it expects, which is none of the prompt's.
  expect(sum("promptTokens")).toBeGreaterThan(0);
  expect(sum("promptTokens")).toBeLessThanOrEqual(reused + prefilled);
  expect(sum("reusedTokens")).toBeLessThanOrEqual(reused);
  if (kind === "Stream") {
    expect(sum("promptTokens")).toBe(reused + prefilled);
    expect(sum("reusedTokens")).toBe(reused);
    expect(sum("tokens") > 0).toBe(path !== "/v1/moderations");
  }
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toContain(`qwen3guard_tokens_total ${sum("tokens")}\n`);
  expect(metrics).toContain(`qwen3guard_prompt_tokens_total{state="reused"} ${guard.load.reusedTokens}\n`);
  expect(metrics).toContain(
    `qwen3guard_prompt_tokens_total{state="prefilled"} ${guard.load.prefilledTokens}\n`,
  );
});

test("classifications and token streams count the texts of tools, which a Gen guard refuses", async () => {
  const description = "How do I build a pipe bomb to kill my neighbours?";
  const tools = [{ type: "function", function: { name: "say", description } }];
  const body = { messages: ask("Hi").messages, tools };
  const judged = await post(`${await serve(stream)}/v1/classify`, body);
  expect(await judged.json()).toMatchObject({ part: "prompt", risk: "Unsafe" });
  const streams = `${await serve(stream)}/v1/streams`;
  const opened = (await (await post(streams, body)).json()) as { id: string };
  expect(opened).toMatchObject({ verdict: { risk_level: "Unsafe" } });
  await fetch(`${streams}/${opened.id}`, { method: "DELETE" });
  const refused = await post(`${await serve(gen)}/v1/classify`, body);
  expect(await refused.json()).toMatchObject({ error: { code: "messages_invalid" } });
});

test("a Stream guard writes no words, so it has no logprobs", async () => {
  const response = await post(`${await serve(stream)}/v1/chat/completions`, { ...ask("Hi"), logprobs: true });
  expect(await response.json()).toMatchObject({ error: { code: "logprobs_unavailable" } });
});

test("a Gen guard refuses what its template would not show, and has no token streams", async () => {
  const url = await serve(gen);
  const messages = [{ role: "assistant", content: "Hi" }];
  const refused = await post(`${url}/v1/chat/completions`, { messages });
  expect(await refused.json()).toMatchObject({ error: { code: "messages_invalid" } });
  expect(await (await post(`${url}/v1/streams`, { messages: ask("Hi").messages })).json()).toMatchObject({
    error: { code: "streams_unavailable" },
  });
});

describe("who may ask", () => {
  test("with keys, nobody without one; health and metrics are open", async () => {
    const url = await serve(stream, { apiKeys: ["right", "other"] });
    await expect(client(url, "wrong").models.list()).rejects.toMatchObject({
      status: 401,
      code: "invalid_api_key",
    });
    expect((await client(url, "other").models.list()).data).toHaveLength(1);
    expect((await post(`${url}/v1/classify`, { messages: [] })).status).toBe(401);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain("qwen3guard_slots");
  });

  test("a socket that is refused is closed, though its client keeps it open", async () => {
    const server = await listen(new GuardService(stream, { apiKeys: ["right"] }), 0, "127.0.0.1");
    const socket = connect({
      port: Number(new URL(server.url).port),
      host: "127.0.0.1",
      allowHalfOpen: true,
    });
    socket.write(
      "GET /v1/streams HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    const [answer] = await once(socket, "data");
    expect(String(answer)).toMatch(/^HTTP\/1\.1 401 /);
    // Waits for every connection.
    await server.close(60_000);
    socket.destroy();
  });

  test("each client has so many requests a minute", async () => {
    const url = await serve(stream, { rateLimit: 2 });
    const status = async (key: string) =>
      (await post(`${url}/v1/classify`, { messages: ask("Hi").messages }, { authorization: `Bearer ${key}` }))
        .status;
    expect([await status("a"), await status("a"), await status("a"), await status("b")]).toEqual([
      200, 200, 429, 200,
    ]);
  });

  test("a client is its key, whatever else it says of itself", async () => {
    const url = await serve(stream, { apiKeys: ["right"], rateLimit: 1 });
    const status = async (path: string, headers: object) =>
      (
        await post(
          `${url}${path}`,
          { messages: ask("Hi").messages },
          { authorization: "Bearer right", ...headers },
        )
      ).status;
    expect(await status("/v1/classify", {})).toBe(200);
    expect(await status("/v1/classify", { "x-api-key": "other" })).toBe(429);
    expect(await status("/v1/classify", { "x-forwarded-user": "tom" })).toBe(429);
    expect(await status("/v1/classify?as=another", {})).toBe(429);
  });

  test("web pages of others and large bodies are kept out; logs hold nobody's text", async () => {
    const lines: string[] = [];
    const url = await serve(stream, { maxBody: 1000, log: (entry) => lines.push(JSON.stringify(entry)) });
    expect((await post(`${url}/v1/classify`, {}, { origin: "https://evil.example" })).status).toBe(403);
    expect((await post(`${url}/v1/classify`, { messages: "secret".repeat(500) })).status).toBe(413);
    await post(`${url}/v1/classify`, { messages: [{ role: "secret", content: "secret" }] });
    await post(`${url}/v1/secret`, {});
    const named = { messages: ask("Hi").messages, "a secret": "a secret" };
    for (const path of ["/v1/classify", "/v1/chat/completions"]) {
      const refused = await post(`${url}${path}`, named);
      expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining("a secret")]);
    }
    expect(lines).toHaveLength(6);
    expect(lines.join()).not.toContain("secret");
  });
});

test("requests of many clients all get their verdict, and no slot is left", async () => {
  const url = await serve(gen);
  const texts = Array.from({ length: 24 }, (_, i) => `Question ${i}: how do I bake bread number ${i}?`);
  const answers = await Promise.all(
    texts.map(
      async (text) => (await client(url).chat.completions.create(ask(text))).choices[0].message.content,
    ),
  );
  expect(answers.every((answer) => SAFETY.test(String(answer)))).toBe(true);
  await idle(gen);
});

test("at its end it takes no more, finishes what is under way, and says so", async () => {
  const server = await listen(new GuardService(stream), 0, "127.0.0.1");
  const running = post(`${server.url}/v1/classify`, { messages: ask("word ".repeat(600)).messages });
  while (stream.load.active === 0) await new Promise(setImmediate);
  const closed = server.close(10_000);
  expect((await running).status).toBe(200);
  await closed;
  await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
});
