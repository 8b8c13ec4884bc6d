import OpenAI, { APIError, AzureOpenAI, BadRequestError } from "openai";
import { describe, expect, test } from "vitest";
import type { ProxyOptions } from "../../../src/gateway/proxy.js";
import { serving } from "../serving.js";
import { chunk, reply } from "../upstream.js";

const proxied = serving();
const messages = [{ role: "user" as const, content: "Hi there" }];
const model = "omni-moderation-latest";
const modes = (input: "score" | "block", output = input) => ({
  model,
  policy: { input: { mode: input }, output: { mode: output } },
});
const safe = { flagged: false, categories: { Violent: false, violence: false, PII: false } };
const violent = { flagged: true, categories: { Violent: true, violence: true, PII: false } };

async function start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof proxied.start>[1] = {}) {
  const { url } = await proxied.start(options, script);
  return { url, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "k", maxRetries: 0 }) };
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

const whole = (content: string) => ({
  object: "chat.completion",
  choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
});

describe("a request that asks for OpenAI's moderation", () => {
  const ask = { model: "m", messages, moderation: modes("block") };

  test("gets results on a chunk of their own, and the server is not asked for them", async () => {
    proxied.upstream.stream(...reply("Hello", " there."));
    const { client } = await start();
    const chunks = await all(await client.chat.completions.create({ ...ask, stream: true }));
    const told = chunks.filter(({ moderation }) => moderation);
    expect(told).toHaveLength(1);
    expect(told[0].choices).toEqual([]);
    expect(told[0]).toMatchObject({ id: "c1", model: "m" });
    const results = { type: "moderation_results", model: "qwen3guard" };
    expect(told[0].moderation).toMatchObject({
      input: { ...results, results: [{ type: "moderation_result", ...safe, flagged: false }] },
      output: { ...results, results: [{ type: "moderation_result", ...safe, flagged: false }] },
    });
    const { output } = told[0].moderation ?? {};
    if (output?.type !== "moderation_results") throw new Error("no results");
    const [result] = output.results;
    // 0.9 safe, 0.8 of the first category.
    expect(result.category_scores.violence).toBeCloseTo(0.08);
    expect(result.category_applied_input_types.violence).toEqual(["text"]);
    expect(chunks.at(-1)?.usage?.total_tokens).toBe(3);
    expect(JSON.parse(proxied.upstream.asked[0].body)).toEqual({ model: "m", messages, stream: true });
  });

  test("is told of a flagged stream too", async () => {
    proxied.upstream.stream(chunk({ content: "so far BAD BAD more" }), chunk({}, "stop"), "[DONE]");
    const { client } = await start();
    const chunks = await all(await client.chat.completions.create({ ...ask, stream: true }));
    expect(chunks.flatMap(({ choices }) => choices).at(-1)?.finish_reason).toBe("content_filter");
    expect(chunks.find(({ moderation }) => moderation)?.moderation).toMatchObject({
      input: { results: [safe] },
      output: { results: [violent] },
    });
  });

  test("gets them with a whole answer, one for each choice", async () => {
    const [first] = whole("Hello").choices;
    const second = { ...first, index: 1, message: { role: "assistant", content: "so far BAD BAD" } };
    proxied.upstream.json({ ...whole(""), choices: [first, second] });
    const { client } = await start();
    const { moderation } = await client.chat.completions.create({ ...ask, n: 2 });
    expect(moderation).toMatchObject({ output: { results: [safe, violent] } });
  });

  test("gets one a side with a response, whole or streamed", async () => {
    const item = {
      id: "m1",
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "so far BAD BAD", annotations: [] }],
    };
    const response = {
      id: "r",
      object: "response",
      created_at: 1,
      status: "completed",
      model: "m",
      output: [item],
    };
    proxied.upstream.json(response);
    const { client } = await start();
    const asked = { model: "m", input: "Hi", moderation: modes("block") };
    const got = await client.responses.create(asked);
    expect(got.moderation).toMatchObject({ input: { type: "moderation_result", ...safe }, output: violent });
    const at = { item_id: "m1", output_index: 0, content_index: 0 };
    const begun = { ...response, status: "in_progress", output: [] };
    proxied.upstream.stream(
      { type: "response.created", response: begun },
      { type: "response.output_item.added", output_index: 0, item: { ...item, content: [] } },
      { type: "response.content_part.added", ...at, part: { ...item.content[0], text: "" } },
      { type: "response.output_text.delta", ...at, delta: "Hello." },
      { type: "response.completed", response: { ...response, output: [] } },
    );
    const final = await client.responses.stream(asked).finalResponse();
    expect(final.moderation).toMatchObject({ input: safe, output: safe });
  });

  test("does not get more past the policy by asking for scores alone, unless that is allowed", async () => {
    proxied.upstream.json(whole("so far BAD BAD more"));
    const scored = { ...ask, moderation: modes("score") };
    const strict = await start();
    const stopped = await strict.client.chat.completions.create(scored);
    expect(stopped.choices[0].finish_reason).toBe("content_filter");
    const open = await start({ allowScore: true });
    const passed = await open.client.chat.completions.create(scored);
    expect(passed.choices[0]).toMatchObject({
      message: { content: "so far BAD BAD more" },
      finish_reason: "stop",
    });
    expect(passed.moderation).toMatchObject({ output: { results: [violent] } });
    const blocked = await open.client.chat.completions.create(ask);
    expect(blocked.choices[0].finish_reason).toBe("content_filter");
  });

  test("may be scored in its prompt alone, where that is allowed", async () => {
    proxied.upstream.json(whole("Hello"));
    const { client } = await start({ allowScore: true }, { prompt: "Unsafe" });
    const { moderation } = await client.chat.completions.create({
      ...ask,
      moderation: modes("score", "block"),
    });
    expect(moderation).toMatchObject({ input: { results: [violent] }, output: { results: [safe] } });
    await expect(client.chat.completions.create(ask)).rejects.toMatchObject({ code: "content_filter" });
  });

  test("has blocked what the policy only notes, where it asks for that", async () => {
    proxied.upstream.json(whole("so far BAD BAD more"));
    const { client } = await start({ policy: { action: "observe" } });
    const block = await client.chat.completions.create(ask);
    expect(block.choices[0].finish_reason).toBe("content_filter");
    const score = await client.chat.completions.create({ ...ask, moderation: modes("score") });
    expect(score.choices[0].finish_reason).toBe("stop");
  });

  test.each([5, { policy: 5 }, { policy: { input: { mode: "off" } } }, { policy: { output: {} } }])(
    "%j is no such field",
    async (moderation) => {
      const { client } = await start();
      const request = { ...ask, moderation } as unknown as typeof ask;
      await expect(client.chat.completions.create(request)).rejects.toMatchObject({
        status: 400,
        code: "body_invalid",
      });
    },
  );

  test("where the guard fails and the policy lets text pass, is told so", async () => {
    proxied.upstream.json(whole("one two three"));
    const { client } = await start({ policy: { failOpen: true } }, { failAt: 2 });
    const { moderation } = await client.chat.completions.create(ask);
    expect(moderation?.output).toMatchObject({ type: "error", code: "guard_failed" });
  });
});

test.each([true, false])("an answer in the model's place tells why (stream: %s)", async (stream) => {
  const { client } = await start({ replacement: "Sorry." }, { prompt: "Unsafe" });
  const ask = { model: "m", messages, moderation: { model } };
  const told = stream
    ? (await all(await client.chat.completions.create({ ...ask, stream: true }))).find(
        (own) => own.moderation,
      )
    : await client.chat.completions.create(ask);
  expect(told?.moderation).toMatchObject({ input: { results: [violent] }, output: { results: [safe] } });
});

test("who does not ask is told nothing", async () => {
  proxied.upstream.json(whole("Hello"));
  const { client } = await start();
  expect(await client.chat.completions.create({ model: "m", messages })).not.toHaveProperty("moderation");
});

describe("Azure's annotations", () => {
  const ask = { model: "m", messages };
  const azure = (url: string) =>
    new AzureOpenAI({
      baseURL: `${url}/openai/deployments/m`,
      apiKey: "k",
      apiVersion: "2024-10-21",
      maxRetries: 0,
    });

  test("a stream: the prompt's first, the answer's at the end, with offsets", async () => {
    proxied.upstream.stream(...reply("Hello", " there."));
    const { url } = await start({ annotations: "azure" });
    // biome-ignore lint/suspicious/noExplicitAny: the types do not name Azure's fields
    const chunks: any[] = await all(await azure(url).chat.completions.create({ ...ask, stream: true }));
    expect(chunks[0]).toMatchObject({ id: "", choices: [], model: "" });
    const clean = {
      violence: { filtered: false, severity: "safe" },
      jailbreak: { filtered: false, detected: false },
    };
    expect(chunks[0].prompt_filter_results[0]).toMatchObject({ prompt_index: 0 });
    const last = chunks.findLast(({ choices }) => choices.length > 0);
    expect(last).toMatchObject({ id: "", choices: [{ index: 0, finish_reason: null }] });
    expect(last.choices[0].content_filter_results).toMatchObject({ violence: clean.violence });
    const { check_offset, start_offset, end_offset } = last.choices[0].content_filter_offsets;
    expect([start_offset, check_offset]).toEqual([0, end_offset]);
    expect(end_offset).toBeGreaterThanOrEqual("Hello there.".length);
  });

  test("a flagged stream and a flagged whole answer", async () => {
    proxied.upstream.stream(chunk({ content: "so far BAD BAD more" }), chunk({}, "stop"), "[DONE]");
    const { url } = await start({ annotations: "azure" });
    // biome-ignore lint/suspicious/noExplicitAny: the types do not name Azure's fields
    const chunks: any[] = await all(await azure(url).chat.completions.create({ ...ask, stream: true }));
    const filtered = { violence: { filtered: true, severity: "high" } };
    const last = chunks.findLast(({ choices }) => choices.length > 0);
    expect(last.choices[0].content_filter_results).toMatchObject(filtered);
    proxied.upstream.json(whole("so far BAD BAD more"));
    const got = await azure(url).chat.completions.create(ask);
    expect(got).toMatchObject({
      prompt_filter_results: [{ prompt_index: 0 }],
      choices: [{ finish_reason: "content_filter", content_filter_results: filtered }],
    });
  });

  test("a blocked prompt says so in the error's innererror", async () => {
    const { url } = await start({ annotations: "azure" }, { prompt: "Unsafe" });
    const error = await azure(url)
      .chat.completions.create(ask)
      .catch((caught) => caught);
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error.error).toMatchObject({
      code: "content_filter",
      innererror: {
        code: "ResponsibleAIPolicyViolation",
        content_filter_result: { violence: { filtered: true } },
      },
    });
  });
});

describe("NeMo Guardrails' errors", () => {
  test("end a flagged stream", async () => {
    proxied.upstream.stream(chunk({ content: "so far BAD BAD more" }), chunk({}, "stop"), "[DONE]");
    const { client } = await start({ errors: "nemo" });
    const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
    let said = "";
    const error = await (async () => {
      for await (const { choices } of stream) said += choices[0]?.delta.content ?? "";
    })().catch((caught) => caught);
    expect(said).toBe("so far");
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ code: "content_blocked", type: "guardrails_violation", param: "Violent" });
  });
});
