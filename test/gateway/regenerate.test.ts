import { describe, expect, test } from "vitest";
import { serving } from "./serving.js";
import { type Asked, chunk, type Script, sse } from "./upstream.js";

const served = serving();
const REGENERATE = { mode: "regenerate", batch: { tokens: 1, ms: 1 }, regenerate: { buffer: 2 } } as const;
const VLLM = { ...REGENERATE, continue: "vllm" } as const;
const USER = { role: "user", content: "Hi" };
const envelope = { id: "c1", object: "chat.completion.chunk", created: 1, model: "m" };

/** A stream's events, each with an id of its own answer. */
function streamed(id: string, texts: string[]) {
  // As vLLM tells it where it is asked to go on telling: of an answer that is dropped, no last word comes.
  const own = (event: object, completion_tokens: number) =>
    sse({ ...event, id, usage: { prompt_tokens: 10, completion_tokens } });
  return [
    own(chunk({ role: "assistant", content: "" }), 0),
    ...texts.map((content, i) => own(chunk({ content }), i + 1)),
    own(chunk({}, "stop"), texts.length),
    own({ ...envelope, choices: [] }, texts.length),
    sse("[DONE]"),
  ];
}

/** Answers in turn; the last one for all that follow. */
function answers(...scripts: { status?: number; type?: string; script: Script }[]) {
  let asked = 0;
  served.upstream.answerWith(() => scripts[Math.min(asked++, scripts.length - 1)]);
}

const json = (body: object, status = 200) => ({
  status,
  type: "application/json",
  script: [JSON.stringify(body)],
});

async function ask(url: string, path: string, body: object, signal?: AbortSignal) {
  const response = await fetch(url + path, {
    ...{ method: "POST", headers: { "content-type": "application/json" }, signal },
    body: JSON.stringify({ model: "m", messages: [USER], ...body }),
  });
  const text = await response.text();
  const events = text
    .split("\n\n")
    .flatMap((event) => /^data: (\{.*\})$/m.exec(event)?.[1] ?? [])
    .map((data) => JSON.parse(data));
  return { status: response.status, text, events };
}

const bodyOf = ({ body }: Asked) => JSON.parse(body);
const contentOf = (events: { choices?: { delta?: { content?: string } }[] }[]) =>
  events.map(({ choices }) => choices?.[0]?.delta?.content ?? "").join("");

/** The last event of a choice. */
const lastOf = (events: { choices?: object[] }[]) => events.findLast(({ choices }) => choices?.length);

describe("chat completions", () => {
  test("a stream that is flagged is gone on with: to its client it is one answer", async () => {
    answers(
      {
        script: [
          ...streamed("c1", ["one two", " three four", " BAD BAD", " five"]).slice(0, -3),
          Number.POSITIVE_INFINITY,
        ],
      },
      { script: streamed("c2", [" drei", " vier"]) },
    );
    const { url } = await served.start(VLLM);
    const { events, text } = await ask(url, "/v1/chat/completions", { stream: true, tools: [] });
    expect(contentOf(events)).toBe("one two three four drei vier");
    expect(new Set(events.map(({ id }) => id))).toEqual(new Set(["c1"]));
    const roles = events.filter(({ choices }) => choices[0]?.delta?.role !== undefined);
    expect(roles).toHaveLength(1);
    const reasons = events.flatMap(({ choices }) => choices[0]?.finish_reason ?? []);
    expect(reasons).toEqual(["stop"]);
    expect(text.match(/\[DONE\]/g)).toHaveLength(1);
    const [first, second] = served.upstream.asked;
    expect(await first.aborted).toBe(true);
    expect(bodyOf(second)).toMatchObject({
      messages: [USER, { role: "assistant", content: "one two three four" }],
      ...{ stream: true, continue_final_message: true, add_generation_prompt: false, tools: [] },
    });
    expect(second.path).toBe(first.path);
    const entry = await served.logged();
    expect(entry).toMatchObject({ end: "passed", regenerations: 1, violations: [], error: null });
  });

  test("usage adds up over what the server has told, and metrics count", async () => {
    answers(
      { script: streamed("c1", ["one two", " BAD BAD"]) },
      { script: streamed("c2", [" drei", " BAD BAD"]) },
      { script: streamed("c3", [" fine", " now"]) },
    );
    const { url, proxy } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
    const { events } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two drei fine now");
    const told = events.flatMap(({ usage }) => usage ?? []);
    expect(told).toHaveLength(1);
    expect(told[0]).toEqual({ prompt_tokens: 30, completion_tokens: 6 });
    await served.logged();
    const metrics = await proxy.metrics.registry.metrics();
    expect(metrics).toContain("qwen3guard_regenerations_total 2");
    expect(metrics).toContain('qwen3guard_regenerated_answers_total{end="complete"} 1');
    const found = 'part="response",action="block",risk="Unsafe",category="Violent"';
    expect(metrics).toContain(`qwen3guard_findings_total{${found}} 2`);
  });

  test("flagged in every attempt, it ends as a flagged answer does, with how often it was tried", async () => {
    answers(...["so", " and", " on"].map((text) => ({ script: streamed("c1", [text, " BAD BAD", " x"]) })));
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1, attempts: 2 } });
    const { events, text } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("so and on");
    expect(lastOf(events)).toMatchObject({
      choices: [{ finish_reason: "content_filter" }],
      qwen3guard: { regenerations: 2, part: "response" },
    });
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
    expect(served.upstream.asked).toHaveLength(3);
    expect(await served.logged()).toMatchObject({
      end: "flagged",
      regenerations: 2,
      violations: [{ regenerations: 2 }],
    });
  });

  test("a server that does not go on: the answer ends as a flagged one, and the log says why", async () => {
    for (const refusal of [
      json({ error: { message: "no prefill" } }, 400),
      json({ choices: [] }),
      { script: ["die"] as Script, type: "text/plain" },
    ]) {
      served.log.length = 0;
      answers({ script: streamed("c1", ["one two", " BAD BAD", " x"]) }, refusal);
      const { url, proxy } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
      const { events } = await ask(url, "/v1/chat/completions", { stream: true });
      expect(contentOf(events)).toBe("one two");
      expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "content_filter" }] });
      expect(await served.logged()).toMatchObject({
        end: "flagged",
        error: { code: "continuation_refused" },
      });
      const metrics = await proxy.metrics.registry.metrics();
      expect(metrics).toContain('qwen3guard_regenerated_answers_total{end="flagged"} 1');
      expect(metrics).toMatch(/findings_total\{part="response".* 1\n/);
    }
  });

  test("a refusal to go on is not read to its end", async () => {
    const endless = {
      status: 400,
      script: ["{", Number.POSITIVE_INFINITY] as Script,
      type: "application/json",
    };
    answers({ script: streamed("c1", ["one two", " BAD BAD", " x"]) }, endless);
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
    await ask(url, "/v1/chat/completions", { stream: true });
    expect(await served.upstream.asked[1].aborted).toBe(true);
  });

  test("an answer that had ended when it was flagged is gone on with to the end", async () => {
    const [first, second] = [streamed("c1", ["one two", " BAD BAD"]), streamed("c2", [" drei", " vier"])];
    answers({ script: [first.join("")] }, { script: second });
    const { url } = await served.start(
      { ...VLLM, regenerate: { buffer: 1 } },
      { beforePush: () => new Promise((resolve) => setTimeout(resolve, 20)) },
    );
    const { events, text } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two drei vier");
    expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "stop" }] });
    expect(text.match(/\[DONE\]/g)).toHaveLength(1);
  });

  test("a server that dies while it goes on is a failure", async () => {
    answers(
      { script: streamed("c1", ["one two", " BAD BAD", " x"]) },
      { script: [...streamed("c2", [" drei vier fünf"]).slice(0, -3), "die"] },
    );
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
    const { events } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two drei vier fünf");
    expect(events.at(-1)).toMatchObject({ error: { code: "upstream_failed" } });
    expect(await served.logged()).toMatchObject({ end: "failed", regenerations: 1 });
  });

  test("what a dropped answer failed of is dropped with it", async () => {
    answers(
      { script: [streamed("c1", ["one two BAD BAD x"]).slice(0, -3).join(""), "die"] },
      { script: streamed("c2", [" fine"]) },
    );
    const { url } = await served.start({
      ...VLLM,
      batch: { tokens: 100, ms: 50 },
      regenerate: { buffer: 1 },
    });
    const { events, text } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two fine");
    expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "stop" }] });
    expect(text).not.toContain('"error"');
    expect(await served.logged()).toMatchObject({ end: "passed", error: null, regenerations: 1 });
  });

  test("what the server says of its failure is not gone on from, where that is flagged", async () => {
    const error = { error: { message: "it so happened BAD BAD x" } };
    answers(
      { script: streamed("c1", ["one two", " BAD BAD", " x"]) },
      { script: [...streamed("c2", [" drei"]).slice(0, -3), sse(error)] },
      { script: streamed("c3", [" fine"]) },
    );
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
    const { events, text } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two drei");
    expect(events.at(-1)).toMatchObject({ error: { code: "upstream_error" } });
    expect(text).not.toMatch(/BAD|happened/);
    expect(served.upstream.asked).toHaveLength(2);
  });

  test("a client that leaves while it is gone on with stops both, and frees the slot", async () => {
    answers(
      { script: [...streamed("c1", ["one two", " BAD BAD", " x"]).slice(0, -3), Number.POSITIVE_INFINITY] },
      { script: [sse(chunk({ content: " drei" })), Number.POSITIVE_INFINITY] },
    );
    const { url } = await served.start(VLLM);
    const controller = new AbortController();
    const asking = ask(url, "/v1/chat/completions", { stream: true }, controller.signal).catch(() => {});
    await expect.poll(() => served.upstream.asked).toHaveLength(2);
    controller.abort();
    await asking;
    for (const { aborted } of served.upstream.asked) expect(await aborted).toBe(true);
    expect(await served.logged()).toMatchObject({ end: "cancelled" });
  });

  test("a call of a tool is not gone on with: the answer ends as it would without", async () => {
    const call = {
      tool_calls: [{ index: 0, id: "t1", type: "function", function: { name: "f", arguments: "{}" } }],
    };
    answers({
      script: [
        sse(chunk({ content: "one two three" })),
        sse(chunk(call)),
        sse(chunk({ content: " BAD BAD x" })),
        sse("[DONE]"),
      ],
    });
    const { url } = await served.start(VLLM);
    const { events } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "content_filter" }] });
    expect(served.upstream.asked).toHaveLength(1);
  });

  test.each<[string, object, object]>([
    ["reasoning", {}, { reasoning_content: "Let me see." }],
    ["log probabilities", { logprobs: true }, { content: "one two" }],
    ["JSON", { response_format: { type: "json_object" } }, { content: "one two" }],
  ])("an answer with %s is held back, and ends at its first flag", async (_, asked, first) => {
    answers({ script: [first, { content: " BAD BAD x" }].map((delta) => sse(chunk(delta))) });
    const { url } = await served.start(VLLM);
    const { events, text } = await ask(url, "/v1/chat/completions", { stream: true, ...asked });
    expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "content_filter" }] });
    expect(text).not.toContain("BAD");
    expect(served.upstream.asked).toHaveLength(1);
  });

  test("a prompt that is flagged is stopped: nobody is asked to go on", async () => {
    answers({ script: streamed("c1", ["one two"]) });
    const { url } = await served.start(VLLM, { prompt: "Unsafe" });
    const { text } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(text).not.toContain("one");
    expect(served.upstream.asked.length).toBeLessThanOrEqual(1);
    expect(await served.logged()).toMatchObject({ end: "blocked", regenerations: 0 });
  });

  test("flagged at its very beginning, the answer is asked for as at first", async () => {
    answers({ script: streamed("c1", ["BAD BAD x"]) }, { script: streamed("c2", ["Fine."]) });
    const { url } = await served.start(VLLM);
    const stop = ["\n\n"];
    const { events } = await ask(url, "/v1/chat/completions", { stream: true, stop });
    expect(contentOf(events)).toBe("Fine.");
    const [first, second] = served.upstream.asked.map(bodyOf);
    expect(second).toEqual(first);
  });

  test("a server that says again what it goes on from: its client has that once, and what is flagged is dropped", async () => {
    const again = { script: streamed("c2", ["one two", " fine", " BAD BAD", " x"]) };
    answers({ script: streamed("c1", ["one two", " BAD BAD", " x"]) }, again);
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1, attempts: 2 } });
    const { events } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two fine");
    expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "content_filter" }] });
  });

  test.each([
    ["said again, and gone on with", "one two fine", "one two fine"],
    ["another text that begins alike", "one three fine", "one twoone three fine"],
    ["a short answer that begins alike", "one", "one twoone"],
    ["nothing more", "one two", "one two"],
  ])("however an answer is cut: %s", async (_, answer, whole) => {
    for (let at = 0; at <= answer.length; at++) {
      const script = streamed("c2", [answer.slice(0, at), answer.slice(at)]);
      answers({ script: streamed("c1", ["one two", " BAD BAD", " x"]) }, { script });
      const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
      const { events } = await ask(url, "/v1/chat/completions", { stream: true });
      expect(contentOf(events), `cut at ${at}`).toBe(whole);
      expect(lastOf(events)).toMatchObject({ choices: [{ finish_reason: "stop" }] });
    }
  });

  test("the words that the model is to go on from are not its client's, also where its server says them again", async () => {
    const turn = () => bodyOf(served.upstream.asked.at(-1) as Asked).messages.at(-1).content;
    served.upstream.answerWith(() => ({
      script:
        served.upstream.asked.length === 1
          ? streamed("c1", ["one two", " BAD BAD", " x"])
          : streamed("c2", [`${turn()} fine`, "."]),
    }));
    const regenerate = { buffer: 1, intervention: "introspection" } as const;
    const { url } = await served.start({ ...VLLM, regenerate });
    const { events } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(bodyOf(served.upstream.asked[1]).messages.at(-1).content).not.toBe("one two");
    expect(contentOf(events)).toBe("one two fine.");
  });

  test("an answer's beginning that the request gives, and its server says again, is sent once when it is gone on with", async () => {
    answers(
      { script: streamed("c1", ["Well, one two", " BAD BAD", " x"]) },
      { script: streamed("c2", ["Well, one two", " fine"]) },
    );
    const { url } = await served.start({ ...REGENERATE, continue: "llama.cpp", regenerate: { buffer: 1 } });
    const messages = [USER, { role: "assistant", content: "Well," }];
    const { events } = await ask(url, "/v1/chat/completions", { stream: true, messages });
    expect(bodyOf(served.upstream.asked[1]).messages.at(-1).content).toBe("Well, one two");
    expect(contentOf(events)).toBe("Well, one two fine");
  });

  test("a whole answer is gone on with as well, and its usage is that of both", async () => {
    const whole = (id: string, content: string, completion_tokens: number, finish_reason = "stop") =>
      json({
        ...{ id, object: "chat.completion", created: 1, model: "m" },
        choices: [{ index: 0, message: { role: "assistant", content }, finish_reason }],
        usage: { prompt_tokens: 10, completion_tokens, total_tokens: 10 + completion_tokens },
      });
    answers(
      whole("c1", "one two three BAD BAD five", 6),
      whole("c2", " drei BAD BAD x", 3),
      // Says again what it goes on from.
      whole("c3", "one two three drei fine", 1, "length"),
    );
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
    const { text } = await ask(url, "/v1/chat/completions", {});
    expect(JSON.parse(text)).toMatchObject({
      id: "c1",
      choices: [{ message: { content: "one two three drei fine" }, finish_reason: "length" }],
      usage: { prompt_tokens: 30, completion_tokens: 10, total_tokens: 40 },
    });
    expect(served.upstream.asked.map((asked) => bodyOf(asked).messages.at(-1).content)).toEqual([
      "Hi",
      "one two three",
      "one two three drei",
    ]);
    answers(whole("c1", "one two three BAD BAD five", 6), json({ error: "no" }, 400));
    const stopped = JSON.parse((await ask(url, "/v1/chat/completions", {})).text);
    expect(stopped).toMatchObject({
      choices: [{ message: { content: "one two three" }, finish_reason: "content_filter" }],
    });
  });

  test("llama.cpp gets the turn as the last message, and a beginning of the request's own stays before it", async () => {
    answers(
      { script: streamed("c1", [" one two", " BAD BAD", " x"]) },
      { script: streamed("c2", [" fine"]) },
    );
    const { url } = await served.start({ ...REGENERATE, continue: "llama.cpp", regenerate: { buffer: 1 } });
    const messages = [USER, { role: "assistant", content: "Well," }];
    const { events } = await ask(url, "/v1/chat/completions", { stream: true, messages });
    expect(contentOf(events)).toBe(" one two fine");
    const { messages: sent, ...rest } = bodyOf(served.upstream.asked[1]);
    expect(sent).toEqual([USER, { role: "assistant", content: "Well, one two" }]);
    expect(rest).toEqual({ model: "m", stream: true });
  });

  test("a request that goes on is another one: it has no idempotency key of the first", async () => {
    answers({ script: streamed("c1", ["one two", " BAD BAD", " x"]) }, { script: streamed("c2", [" fine"]) });
    const { url } = await served.start(VLLM);
    const headers = {
      "content-type": "application/json",
      "idempotency-key": "k1",
      authorization: "Bearer a",
    };
    const body = JSON.stringify({ model: "m", messages: [USER], stream: true });
    await (await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body })).text();
    const sent = served.upstream.asked.map(({ headers }) => [
      headers["idempotency-key"],
      headers.authorization,
    ]);
    expect(sent).toEqual([
      ["k1", "Bearer a"],
      [undefined, "Bearer a"],
    ]);
  });

  test("what its client has counts towards the most that it asked for, and each attempt has a seed of its own", async () => {
    answers(
      { script: streamed("c1", ["one two", " BAD BAD", " x"]) },
      { script: streamed("c2", [" BAD BAD", " x"]) },
      { script: streamed("c3", [" fine"]) },
    );
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1 } });
    const asked = { max_tokens: 50, max_completion_tokens: 2, min_tokens: 3, seed: 7, temperature: 1 };
    await ask(url, "/v1/chat/completions", { stream: true, ...asked });
    const [first, second, third] = served.upstream.asked.map(bodyOf);
    expect(first).toMatchObject(asked);
    expect(second).toMatchObject({ seed: 8, temperature: 1, max_completion_tokens: 1 });
    expect(third).toMatchObject({ seed: 9, max_completion_tokens: 1 });
    for (const { max_tokens, min_tokens } of [second, third]) {
      // Not what was dropped: that has as many tokens again.
      expect(max_tokens).toBeGreaterThan(46);
      expect(max_tokens).toBeLessThan(50);
      expect(min_tokens).toBeLessThan(3);
    }
  });

  test("with introspection the model reads what only it is to read", async () => {
    answers(
      { script: streamed("c1", ["one two", " BAD BAD", " x"]) },
      { script: streamed("c2", [" I was wrong."]) },
    );
    const { url } = await served.start({ ...VLLM, regenerate: { buffer: 1, intervention: "introspection" } });
    const { events } = await ask(url, "/v1/chat/completions", { stream: true });
    expect(contentOf(events)).toBe("one two I was wrong.");
    expect(bodyOf(served.upstream.asked[1]).messages.at(-1).content).toMatch(/^one two\n\n\(I stop here/);
  });
});

describe("Anthropic's messages", () => {
  const ANTHROPIC = { ...REGENERATE, continue: "anthropic", regenerate: { buffer: 1 } } as const;
  const event = (type: string, fields: object) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
  const message = (id: string, input_tokens: number) => ({
    ...{
      id,
      type: "message",
      role: "assistant",
      model: "m",
      content: [],
      stop_reason: null,
      stop_sequence: null,
    },
    usage: { input_tokens, output_tokens: 1 },
  });
  const said = (id: string, texts: string[], tokens: number): Script => [
    event("message_start", { message: message(id, 10) }),
    event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
    event("ping", {}),
    ...texts.map((text) => event("content_block_delta", { index: 0, delta: { type: "text_delta", text } })),
    event("content_block_stop", { index: 0 }),
    event("message_delta", {
      delta: { stop_reason: "end_turn", stop_sequence: null },
      usage: { output_tokens: tokens },
    }),
    event("message_stop", {}),
  ];

  test("one message, one block, one end", async () => {
    answers(
      { script: said("m1", ["one two", " BAD BAD", " x"], 5) },
      { script: said("m2", [" drei", " vier"], 2) },
    );
    const { url } = await served.start(ANTHROPIC);
    const { events } = await ask(url, "/v1/messages", { stream: true, max_tokens: 100 });
    expect(
      events.map(({ type, index }) => `${type}${index ?? ""}`).filter((type) => !/delta0|ping/.test(type)),
    ).toEqual([
      ...["message_start", "content_block_start0", "content_block_stop0", "message_delta", "message_stop"],
    ]);
    expect(events.map(({ delta }) => delta?.text ?? "").join("")).toBe("one two drei vier");
    expect(events.find(({ type }) => type === "message_delta")).toMatchObject({
      delta: { stop_reason: "end_turn" },
      // Of the message that was dropped, its beginning told of one.
      usage: { output_tokens: 3 },
    });
    expect(bodyOf(served.upstream.asked[1]).messages).toEqual([
      USER,
      { role: "assistant", content: "one two" },
    ]);
    expect(await served.logged()).toMatchObject({ end: "passed", regenerations: 1 });
  });

  test.each([
    ["said again, and gone on with", "one two fine", "one two fine"],
    ["another text that begins alike", "one three", "one twoone three"],
    ["a short answer that begins alike", "one", "one twoone"],
  ])("however a message is cut: %s", async (_, answer, whole) => {
    for (let at = 0; at <= answer.length; at++) {
      const script = said("m2", [answer.slice(0, at), answer.slice(at)], 2);
      answers({ script: said("m1", ["one two", " BAD BAD", " x"], 5) }, { script });
      const { url } = await served.start(ANTHROPIC);
      const { events } = await ask(url, "/v1/messages", { stream: true, max_tokens: 100 });
      expect(events.map(({ delta }) => delta?.text ?? "").join(""), `cut at ${at}`).toBe(whole);
      expect(events.filter(({ type }) => type === "content_block_stop")).toHaveLength(1);
    }
  });

  test("where nothing goes on with the open block, it ends before what comes", async () => {
    const tool = { type: "tool_use", id: "t1", name: "f", input: {} };
    const called = [
      event("content_block_start", { index: 0, content_block: tool }),
      event("content_block_stop", { index: 0 }),
    ];
    for (const blocks of [[], called]) {
      const rest = said("m2", [], 2) as string[];
      answers(
        { script: said("m1", ["one two", " BAD BAD", " x"], 5) },
        { script: [rest[0], ...blocks, ...rest.slice(-2)] },
      );
      const { url } = await served.start(ANTHROPIC);
      const { events } = await ask(url, "/v1/messages", { stream: true, max_tokens: 100 });
      expect(events.map(({ delta }) => delta?.text ?? "").join("")).toBe("one two");
      expect(
        events
          .map(({ type, index }) => `${type}${index ?? ""}`)
          .filter((type) => !/block_delta|ping/.test(type)),
      ).toEqual([
        ...["message_start", "content_block_start0", "content_block_stop0"],
        ...(blocks.length > 0 ? ["content_block_start1", "content_block_stop1"] : []),
        ...["message_delta", "message_stop"],
      ]);
    }
  });

  test("a model that refuses prefill: the message ends as a refusal", async () => {
    const refused = json(
      { type: "error", error: { type: "invalid_request_error", message: "This model does not…" } },
      400,
    );
    answers({ script: said("m1", ["one two", " BAD BAD", " x"], 5) }, refused);
    const { url } = await served.start(ANTHROPIC);
    const { events } = await ask(url, "/v1/messages", { stream: true, max_tokens: 100 });
    expect(events.find(({ type }) => type === "message_delta")).toMatchObject({
      delta: { stop_reason: "refusal" },
    });
    expect(events.at(-1)).toEqual({ type: "message_stop" });
    expect(await served.logged()).toMatchObject({ end: "flagged", error: { code: "continuation_refused" } });
  });

  test("a whole message", async () => {
    const whole = (id: string, text: string, output_tokens: number, stop_reason = "end_turn") =>
      json({
        ...message(id, 10),
        content: [{ type: "text", text }],
        stop_reason,
        usage: { input_tokens: 10, output_tokens },
      });
    answers(whole("m1", "one two BAD BAD x", 5), whole("m2", " fine", 1, "max_tokens"));
    const { url } = await served.start(ANTHROPIC);
    const { text } = await ask(url, "/v1/messages", { max_tokens: 100 });
    expect(JSON.parse(text)).toMatchObject({
      ...{ id: "m1", stop_reason: "max_tokens", usage: { input_tokens: 20, output_tokens: 6 } },
      content: [{ type: "text", text: "one two fine" }],
    });
    // The model may have nothing to add.
    const nothing = json({
      ...{ ...message("m2", 10), content: [], stop_reason: "end_turn" },
      usage: { input_tokens: 10, output_tokens: 0 },
    });
    answers(whole("m1", "one two BAD BAD x", 5), nothing);
    expect(JSON.parse((await ask(url, "/v1/messages", { max_tokens: 100 })).text)).toMatchObject({
      ...{ stop_reason: "end_turn", content: [{ type: "text", text: "one two" }] },
    });
  });
});

describe("what is not gone on with", () => {
  test("several choices are refused by name", async () => {
    const { url } = await served.start(VLLM);
    const { status, text } = await ask(url, "/v1/chat/completions", { n: 2 });
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({ error: { code: "regenerate_one_choice" } });
    expect(served.upstream.asked).toHaveLength(0);
  });

  test.each([
    ["/v1/completions", { prompt: "Hi", messages: undefined }],
    ["/v1/chat/completions", { response_format: { type: "json_object" } }],
    ["/v1/chat/completions", { logprobs: true }],
    ["/v1/chat/completions", { echo: true }],
  ])("%s %o is held back, and ends at its first flag", async (path, body) => {
    const text = "one two three BAD BAD";
    answers(
      json({
        id: "x",
        choices: [{ index: 0, text, message: { role: "assistant", content: text }, finish_reason: "stop" }],
      }),
    );
    const { url } = await served.start(VLLM);
    const answer = JSON.parse((await ask(url, path, body)).text);
    expect(answer.choices[0].finish_reason).toBe("content_filter");
    expect(served.upstream.asked).toHaveLength(1);
  });

  test.each([
    [{ mode: "regenerate" }, "--continue vllm"],
    [{ mode: "regenerate", continue: "ollama" }, "--continue vllm"],
    [{ continue: "vllm" }, "--mode regenerate"],
    [{ regenerate: { buffer: 3 } }, "--mode regenerate"],
    [{ ...VLLM, release: "judged" }, "--release"],
    [{ ...VLLM, scout: true }, "--scout"],
    [{ ...VLLM, annotations: "azure" }, "--annotations"],
    [{ ...VLLM, regenerate: { attempts: 0 } }, "attempts"],
  ])("a proxy with %j does not start, and says what to do", async (options, fix) => {
    await expect(served.start(options as never)).rejects.toMatchObject({
      code: "OPTION_INVALID",
      message: expect.stringContaining(fix),
    });
  });
});
