import OpenAI from "openai";
import { afterEach, describe, expect, test } from "vitest";
import { ScriptedStream } from "../../gate/scripted.js";
import { answered, CHAT, COMPLETIONS, DONE, RESPONSES, sse } from "../answering.js";
import { chunk } from "../upstream.js";

const FLAGGED = "so BAD BAD more";
const LIFETIME = { id: "r", object: "response", status: "in_progress", output: [] };
const message = (own: object, choice: object = {}, body: object = {}) => ({
  id: "c",
  object: "chat.completion",
  choices: [{ index: 0, message: { role: "assistant", ...own }, finish_reason: "stop", ...choice }],
  ...body,
});
const text = (events: { choices: { delta: { content?: string } }[] }[]) =>
  events.map(({ choices }) => choices?.[0]?.delta?.content ?? "").join("");

afterEach(() => expect(ScriptedStream.open).toBe(0));

describe("an answer that would hold the event loop", () => {
  const parts = Array.from({ length: 5000 }, () => ({ type: "text", text: "a " }));
  const items = [{ type: "message", content: parts.map(({ text }) => ({ type: "output_text", text })) }];

  test.each<[string, string, object | object[]]>([
    ["in a whole answer", CHAT, message({ content: parts })],
    ["in an event", CHAT, [chunk({ content: parts })]],
    ["in a response", RESPONSES, { output: items }],
  ])("of thousands of texts %s is no answer", async (_, endpoint, answer) => {
    const { failure } = await answered(endpoint, answer);
    expect(failure).toMatchObject({ status: 502, code: "upstream_invalid" });
  });

  test("of text said over again and again is searched so far and no further", async () => {
    const reasoning = "abc ".repeat(2 ** 16);
    const again = (text: string) => Array.from({ length: 100 }, () => ({ type: "reasoning.text", text }));
    const details = [...again("abc abd"), ...again("bc a"), { type: "reasoning.text", text: reasoning }];
    const { json } = await answered(CHAT, message({ content: "Hi", reasoning, reasoning_details: details }));
    const passed = json.choices[0].message.reasoning_details as { text?: string }[];
    const texts = passed.map(({ text }) => text);
    expect(texts).toEqual([...Array(200).fill(undefined), reasoning]);
  });
});

describe("what is left out", () => {
  test.each<[string, string, object]>([
    ["a list of texts as choices", CHAT, { choices: [FLAGGED] }],
    ["a text as message", CHAT, { choices: [{ index: 0, message: FLAGGED }] }],
    ["a list as choice", CHAT, { choices: [[FLAGGED]] }],
    ["a completion's choice that is a text", COMPLETIONS, { choices: [FLAGGED] }],
    ["a list as a completion's text", COMPLETIONS, { choices: [{ index: 0, text: [FLAGGED] }] }],
    ["a text as output", RESPONSES, { output: FLAGGED }],
    ["a text as a message's content", RESPONSES, { output: [{ type: "message", content: FLAGGED }] }],
    ["a text as a part", RESPONSES, { output: [{ type: "message", content: [FLAGGED] }] }],
    ["a text as a reasoning's summary", RESPONSES, { output: [{ type: "reasoning", summary: FLAGGED }] }],
    ["an index that is a text", CHAT, message({ content: "a" }, { index: "0" })],
    ["an index that is none", CHAT, message({ content: "a" }, { index: true })],
    ["a choice that was not asked for", CHAT, message({ content: "a" }, { index: 1 })],
  ])("%s is no answer: 502", async (_, endpoint, body) => {
    const { status, text, failure } = await answered(endpoint, body);
    expect(status).toBe(502);
    expect(failure?.code).toBe("upstream_invalid");
    expect(text).not.toContain("BAD");
  });

  test.each<[string, object]>([
    [
      "text under names that nobody knows",
      message({ content: "Hi", transcript: FLAGGED }, { said: FLAGGED }),
    ],
    [
      "a verbose field beside the choices",
      message({ content: "Hi" }, {}, { __verbose: { content: FLAGGED } }),
    ],
    ["usage with text in it", message({ content: "Hi" }, {}, { usage: { note: FLAGGED, total_tokens: 3 } })],
    ["a finish reason of many words", message({ content: "Hi" }, { finish_reason: FLAGGED })],
    ["a role of many words", message({ content: "Hi", role: FLAGGED })],
    ["a model of many words", message({ content: "Hi" }, {}, { model: FLAGGED + FLAGGED })],
    [
      "text as the name of a field",
      message({ content: "Hi" }, {}, { [FLAGGED]: 1, usage: { [FLAGGED]: 1 } }),
    ],
    ["a voice", message({ content: "Hi", audio: { transcript: FLAGGED, data: "AAAA" } })],
    [
      "what is given out as the proxy's own",
      message({ content: "Hi" }, {}, { qwen3guard: { text: FLAGGED } }),
    ],
    [
      "an error's words within a filter",
      message({ content: "Hi" }, { content_filter_results: { error: { message: FLAGGED } } }),
    ],
  ])("%s", async (_, body) => {
    const { status, text, json } = await answered(CHAT, body);
    expect(status).toBe(200);
    expect(json.choices[0].message.content).toBe("Hi");
    expect(text).not.toContain("BAD");
    expect(json).not.toHaveProperty("qwen3guard");
  });

  test("lists of numbers, which may be token ids; numbers alone pass", async () => {
    const ids = [11, 22, 33];
    const { json, text } = await answered(
      CHAT,
      message(
        { content: "Hi", seed: 7 },
        { token_ids: ids, prompt_logprobs: [ids] },
        { prompt_token_ids: ids, took: 1.5 },
      ),
    );
    expect(text).not.toContain("11,22");
    expect(json).toMatchObject({ took: 1.5, choices: [{ message: { seed: 7 } }] });
  });

  test("items, parts and events of unknown types", async () => {
    const output = [
      { type: "speech", text: FLAGGED },
      {
        type: "message",
        id: "m",
        content: [
          { type: "song", text: FLAGGED },
          { type: "output_text", text: "Hi" },
        ],
      },
    ];
    const whole = await answered(RESPONSES, { ...LIFETIME, status: "completed", output });
    expect(whole.json.output).toEqual([
      { type: "speech" },
      { type: "message", id: "m", content: [{ type: "song" }, { type: "output_text", text: "Hi" }] },
    ]);
    const { events, text } = await answered(RESPONSES, [
      { type: "response.created", response: LIFETIME },
      { type: "response.song.delta", delta: FLAGGED },
      { type: "response.output_item.added", output_index: 0, item: { type: "speech", text: FLAGGED } },
      { type: "response.content_part.done", output_index: 0, part: { type: "song", text: FLAGGED } },
      { choices: [{ delta: { content: FLAGGED } }] },
      { type: "response.completed", response: { ...LIFETIME, status: "completed" } },
    ]);
    expect(text).not.toContain("BAD");
    expect(events.map(({ type }) => type)).toEqual([
      "response.created",
      "response.output_item.added",
      "response.content_part.done",
      "response.completed",
    ]);
    expect(events[1].item).toEqual({ type: "speech" });
  });

  test("headers that may hold text, or are about the server", async () => {
    const headers = {
      "x-answer": FLAGGED,
      "set-cookie": "a=b",
      "x-request-id": "r1",
      "x-ratelimit-limit-requests": "9",
      date: "Thu, 26 Nov 2026 10:00:00 GMT",
      "x-ms-region": "East US",
      "openai-version": `${FLAGGED} and so on`,
    };
    const { headers: sent } = await answered(CHAT, message({ content: "Hi" }), { headers });
    expect(Object.fromEntries(sent)).toEqual({
      "content-type": "application/json",
      "x-request-id": "r1",
      "x-ratelimit-limit-requests": "9",
      date: "Thu, 26 Nov 2026 10:00:00 GMT",
      "x-ms-region": "East US",
    });
  });
});

describe("fields that were opened", () => {
  const verbose = { __verbose: { content: "so far" }, token_ids: [1, 2] };

  test("pass by name, and are counted", async () => {
    const { json, unjudged } = await answered(CHAT, message({ content: "so far" }, {}, verbose), {
      passFields: ["__verbose"],
    });
    expect(json.__verbose).toEqual({ content: "so far" });
    expect(json).not.toHaveProperty("token_ids");
    expect(unjudged).toEqual(["field"]);
  });

  test('all pass with "unjudged": "pass" in the policy', async () => {
    const { json, unjudged } = await answered(CHAT, message({ content: "so far" }, {}, verbose), {
      policy: { unjudged: "pass" },
    });
    expect(json).toMatchObject(verbose);
    expect(unjudged).toHaveLength(2);
  });

  test("in a stream they come after the text of their event, and with it alone", async () => {
    const event = { ...chunk({ content: FLAGGED }), __verbose: { content: FLAGGED }, raw: FLAGGED };
    const events = [
      { ...chunk({ content: "fine " }), raw: "fine" },
      event,
      { ...chunk({}, "stop"), usage: {} },
    ];
    const { text } = await answered(CHAT, [...events, DONE], { passFields: ["__verbose", "raw"] });
    expect(text).toContain('"raw":"fine"');
    expect(text).not.toContain("BAD");
  });

  test("a whole answer that was stopped goes without them", async () => {
    const { text } = await answered(CHAT, message({ content: FLAGGED }, {}, { __verbose: FLAGGED }), {
      passFields: ["__verbose"],
    });
    expect(text).not.toContain("BAD");
  });
});

describe("log probabilities", () => {
  const entry = (token: string, top: string[] = []) => ({
    token,
    logprob: -0.5,
    bytes: [...Buffer.from(token)],
    top_logprobs: top.map((own) => ({ token: own, logprob: -1, bytes: null })),
  });

  test("tokens pass that the text is made of; of alternatives single words", async () => {
    const content = [
      entry("Hel", ["Hel", "Bye", "a whole sentence"]),
      entry("lo"),
      entry("\ufffd"),
      entry("!"),
    ];
    const { json } = await answered(CHAT, message({ content: "Hello!" }, { logprobs: { content } }));
    const seen = json.choices[0].logprobs.content;
    expect(seen.map(({ token }: { token: string }) => token)).toEqual(["Hel", "lo", "", "!"]);
    expect(seen[0].bytes).toEqual([72, 101, 108]);
    expect(seen[2]).toMatchObject({ logprob: -0.5, bytes: null });
    expect(seen[0].top_logprobs.map(({ token }: { token: string }) => token)).toEqual(["Hel", "Bye", ""]);
  });

  test("tokens that the text does not have, or not in that order, do not", async () => {
    const content = [entry("BAD"), entry(" BAD"), entry("!"), entry("lo"), entry("Hel")];
    const { text } = await answered(CHAT, message({ content: "Hello!" }, { logprobs: { content } }));
    expect(text).not.toMatch(/BAD|"lo"|"Hel"/);
    expect(text).not.toContain("66,65,68");
  });

  test("of a completion, in columns", async () => {
    const logprobs = {
      tokens: ["Hi", " BAD"],
      token_logprobs: [-1, -2],
      text_offset: [0, 2],
      top_logprobs: [{ Hi: -1, "so BAD BAD": -2 }, null],
    };
    const { json } = await answered(COMPLETIONS, { choices: [{ index: 0, text: "Hi", logprobs }] });
    expect(json.choices[0].logprobs).toEqual({
      tokens: ["Hi", ""],
      token_logprobs: [-1, -2],
      text_offset: [0, 2],
      top_logprobs: [{ Hi: -1 }, null],
    });
  });

  test("in a stream they come after their text, and not at all where that was stopped", async () => {
    const event = (content: string) => ({
      ...chunk({ content }),
      choices: [{ index: 0, delta: { content }, logprobs: { content: [entry(content, [content])] } }],
    });
    const { text, events } = await answered(CHAT, [
      event("so"),
      event(" BAD"),
      event(" BAD"),
      chunk({}, "stop"),
    ]);
    expect(text).not.toContain("BAD");
    expect(events.flatMap(({ choices }) => choices[0].logprobs?.content ?? [])).toMatchObject([
      { token: "so" },
    ]);
  });

  test("one that comes an event after its text still belongs to it", async () => {
    const late = {
      ...chunk({}),
      choices: [{ index: 0, delta: {}, logprobs: { content: [entry("Hello")] } }],
    };
    const { events } = await answered(CHAT, [chunk({ content: "Hello" }), late, chunk({}, "stop"), DONE]);
    expect(events.flatMap(({ choices }) => choices[0].logprobs?.content ?? [])).toMatchObject([
      { token: "Hello" },
    ]);
  });
});

describe("each text in the event that it came in", () => {
  test("an annotation behind a text that is held does not lend it its id", async () => {
    const note = {
      id: "",
      object: "",
      created: 0,
      model: "",
      choices: [{ index: 0, content_filter_offsets: { start_offset: 0 } }],
    };
    const { events } = await answered(CHAT, [
      chunk({ content: "Hello there" }),
      note,
      chunk({}, "stop"),
      DONE,
    ]);
    const said = events.filter(({ choices }) => choices[0].delta.content);
    expect(said.map(({ id }) => id)).toEqual(said.map(() => "c1"));
    expect(events.find(({ id }) => id === "")?.choices[0].content_filter_offsets).toEqual({
      start_offset: 0,
    });
  });

  test("an error behind a text that is held does not come with it", async () => {
    const { events } = await answered(CHAT, [
      chunk({ content: "Hello" }),
      { ...chunk({ content: "" }, "error"), error: { code: 502, message: "gone" } },
    ]);
    expect(events).toMatchObject([
      { id: "c1", choices: [{ delta: { content: "Hello" } }] },
      { error: { message: "gone" } },
    ]);
    expect(events[0]).not.toHaveProperty("error");
  });

  test("text in events that do not differ is joined", async () => {
    const { events } = await answered(CHAT, [
      ...["a", "b", "c "].map((content) => chunk({ content })),
      chunk({}, "stop"),
      DONE,
    ]);
    expect(text(events)).toBe("abc ");
    expect(events.length).toBeLessThanOrEqual(3);
  });

  test("a flag's own event goes by the answer's id", async () => {
    const { events } = await answered(CHAT, [
      { ...chunk({ content: "" }), id: "" },
      chunk({ content: FLAGGED }),
    ]);
    expect(events.at(-1)).toMatchObject({ id: "c1", choices: [{ finish_reason: "content_filter" }] });
  });
});

describe("a server that fails", () => {
  const error = { code: 502, message: "BOOM" };
  const spellings: Record<string, (object | string)[]> = {
    "choices and an error": [{ choices: [], error }],
    "a choice's own": [{ choices: [{ index: 0, delta: {}, finish_reason: "error", error }] }],
    "an error that is a text": [{ error: "BOOM" }],
    "object: error": [{ object: "error", ...error }],
    "an event of that name": [`event: error\ndata: {"message":"BOOM"}`],
    "an event of that name that is no JSON": ["event: error\ndata: BOOM"],
    "a field of that name": [`error: {"message":"BOOM"}`],
    "an error object": [{ error }],
    "type: error": [{ type: "error", error }],
  };
  const answers = [CHAT, COMPLETIONS, RESPONSES].flatMap((endpoint) =>
    Object.keys(spellings).map((name) => [endpoint, name] as const),
  );

  test.each(answers)("%s: %s ends as an error", async (endpoint, name) => {
    const { events, failure, text } = await answered(endpoint, [...spellings[name], DONE] as object[]);
    expect(events.at(-1)).toMatchObject(
      endpoint === RESPONSES ? { type: "error", message: "BOOM" } : { error: { message: "BOOM" } },
    );
    expect(text).not.toContain("[DONE]");
    expect(failure).toMatchObject({ code: "upstream_error", status: 502 });
  });

  test("a response that failed", async () => {
    const { events, failure } = await answered(RESPONSES, [
      { type: "response.created", response: LIFETIME },
      { type: "response.failed", response: { ...LIFETIME, status: "failed", error } },
    ]);
    expect(events.at(-1)).toMatchObject({ type: "error", message: "BOOM" });
    expect(failure?.code).toBe("upstream_error");
  });

  test.each([
    ["a whole one", { error }],
    ["one beside choices", { choices: [], error }],
    ["a text", { error: "BOOM" }],
    ["a choice's", { choices: [{ index: 0, message: { content: "" }, error }] }],
  ])("in place of an answer, %s: 502", async (_, body) => {
    const { status, json } = await answered(CHAT, body);
    expect(status).toBe(502);
    expect(json.error.message).toBe("BOOM");
  });

  test("its words are for the client: a log gets length and hash", async () => {
    const key = "sk-very-secret";
    const { failure, json } = await answered(
      CHAT,
      { error: { message: `Wrong key ${key}`, code: "invalid_api_key" } },
      { status: 401 },
    );
    expect(json.error).toMatchObject({ message: `Wrong key ${key}`, code: "invalid_api_key" });
    expect(failure).toMatchObject({
      code: "upstream_refused",
      facts: {
        messageLength: 24,
        upstreamCode: "invalid_api_key",
        messageHash: expect.stringMatching(/^[\da-f]{12}$/),
      },
    });
    expect(`${failure?.message}${JSON.stringify(failure?.facts)}`).not.toContain(key);
  });

  test("its words are judged like the answer", async () => {
    const cannot = { error: { message: `Cannot parse: ${FLAGGED}`, code: "parse_error" } };
    const streamed = await answered(CHAT, [chunk({ content: "fine so far " }), cannot]);
    expect(text(streamed.events)).toBe("fine so far ");
    expect(streamed.events.at(-1)).toMatchObject({
      error: { code: "parse_error", message: "The model's server told of an error." },
    });
    expect(streamed.text).not.toContain("BAD");
    for (const status of [200, 400, 500]) {
      const { text, json } = await answered(CHAT, cannot, { status });
      expect(text).not.toContain("BAD");
      expect(json.error.code).toBe("parse_error");
    }
  });

  test("its words stay out where they are flagged, also where text passes before it is judged", async () => {
    const error = { error: { message: `Cannot parse: ${FLAGGED}` } };
    const { text, events } = await answered(CHAT, [chunk({ content: "fine so far " }), error], {
      mode: "stream-first",
    });
    expect(events.at(-1)).toMatchObject({ error: { message: "The model's server told of an error." } });
    expect(text).not.toContain("BAD");
  });

  test.each([
    ["an error of FastAPI", { detail: "No such model" }, "No such model"],
    ["a text", { error: "No such model" }, "No such model"],
    ["an answer", message({ content: "Hi" }), "The model's server failed and does not say why."],
  ])("a refusal with %s for its body has a status and an error object", async (_, body, said) => {
    const { status, json } = await answered(CHAT, body, { status: 404 });
    expect(status).toBe(404);
    expect(json).toMatchObject({ error: { message: said, code: "upstream_refused", param: null } });
  });

  test("a page of HTML in place of a refusal stays out", async () => {
    const { status, text } = await answered(CHAT, "<html>BAD BAD</html>", { status: 502, type: "text/html" });
    expect(status).toBe(502);
    expect(text).toContain("refused the request with status 502");
    expect(text).not.toContain("BAD");
  });

  test.each([204, 205, 301, 302, 304, 307])("status %i is no answer: 502", async (status) => {
    const { status: sent, failure } = await answered(CHAT, "", { status, type: "application/json" });
    expect(sent).toBe(502);
    expect(failure?.code).toBe("upstream_invalid");
  });

  test.each([CHAT, COMPLETIONS, RESPONSES])(
    "%s: JSON nested without end is a 502, or left out",
    async (endpoint) => {
      const deep = "[".repeat(200_000) + "]".repeat(200_000);
      const bodies: Record<string, string> = {
        [CHAT]: `{"choices": [{"index": 0, "message": {"content": "Hi", "tool_calls": [{"function": {"arguments": ${deep}}}]}}]}`,
        [COMPLETIONS]: `{"choices": [{"index": 0, "text": "Hi", "logprobs": ${deep}}], "usage": ${deep}}`,
        [RESPONSES]: `{"output": [{"type": "function_call", "arguments": ${deep}}]}`,
      };
      const { status } = await answered(endpoint, bodies[endpoint], { type: "application/json" });
      expect([200, 502]).toContain(status);
    },
  );
});

describe("an answer that ends before it is over", () => {
  test.each([
    [CHAT, [chunk({ content: "so far so " })], "so far so "],
    [CHAT, [], ""],
    [COMPLETIONS, [{ choices: [{ index: 0, text: "so far" }] }], "so far"],
    [RESPONSES, [{ type: "response.output_text.delta", item_id: "m", delta: "so far" }], "so far"],
  ])("%s %#: what was judged, then an error", async (endpoint, events, said) => {
    const { text, events: seen, failure } = await answered(endpoint, events);
    const parts = seen.map(
      ({ delta, choices }) => delta ?? choices?.[0].text ?? choices?.[0].delta?.content ?? "",
    );
    expect(parts.join("")).toBe(said);
    expect(text).toContain("upstream_failed");
    expect(failure).toMatchObject({ code: "upstream_failed" });
  });

  test("one of two choices that does not finish is enough", async () => {
    const events = [chunk({ content: "a" }), chunk({ content: "b" }, null, 1), chunk({}, "stop")];
    const { text, failure } = await answered(CHAT, events, { n: 2 });
    expect(text).toContain('"content":"b"');
    expect(failure?.code).toBe("upstream_failed");
  });

  test.each([
    ["a finish reason", [chunk({ content: "a" }), chunk({}, "stop")]],
    ["[DONE]", [chunk({ content: "a" }), DONE]],
    ["[DONE] and white space", [chunk({ content: "a" }), "data: [DONE] "]],
  ])("%s ends it well", async (_, events) => {
    const { failure, text } = await answered(CHAT, events as object[]);
    expect(failure).toBeNull();
    expect(text).not.toContain('"error"');
  });

  test("where every choice was stopped, it takes nothing from the client", async () => {
    const { text, events } = await answered(CHAT, [chunk({ content: FLAGGED })]);
    expect(events.at(-1).choices[0].finish_reason).toBe("content_filter");
    expect(text).toMatch(/\[DONE\]\s*$/);
    expect(text).not.toContain('"error"');
  });

  test.each(["", null])("a finish reason of %j is none", async (reason) => {
    const { failure } = await answered(CHAT, [chunk({ content: "a" }, reason)]);
    expect(failure?.code).toBe("upstream_failed");
  });

  test.each(["data:", "data: ", ": keep-alive", "id: 1", "retry: 5", "event: ping", "nonsense"])(
    "%j between events means nothing",
    async (line) => {
      const { failure, events } = await answered(CHAT, [
        chunk({ content: "a" }),
        line,
        chunk({ content: "b " }),
        chunk({}, "stop"),
        DONE,
      ] as object[]);
      expect(failure).toBeNull();
      expect(text(events)).toBe("ab ");
    },
  );

  test.each(["Text/Event-Stream", "text/event-stream;charset=UTF-8", " text/event-stream"])(
    "%j is an event stream",
    async (type) => {
      const { events } = await answered(
        CHAT,
        [chunk({ content: "Hi " }), chunk({}, "stop"), DONE] as object[],
        { type },
      );
      expect(text(events)).toBe("Hi ");
    },
  );
});

describe("a response that is stopped", () => {
  const at = { item_id: "m", output_index: 1, content_index: 0 };
  const open = [
    { type: "response.created", response: LIFETIME },
    {
      type: "response.output_item.added",
      output_index: 0,
      item: { id: "f", type: "function_call", name: "f", call_id: "k", arguments: "" },
    },
    { type: "response.function_call_arguments.delta", item_id: "f", output_index: 0, delta: '{"a":' },
    {
      type: "response.output_item.added",
      output_index: 1,
      item: { id: "m", type: "message", role: "assistant", content: [] },
    },
    { type: "response.content_part.added", ...at, part: { type: "output_text", text: "", annotations: [] } },
    { type: "response.output_text.delta", ...at, delta: "so far BAD" },
    { type: "response.output_text.delta", ...at, delta: " BAD more" },
  ];

  test("closes the parts, items and arguments that are open", async () => {
    const { events, text } = await answered(RESPONSES, open);
    const types = events.map(({ type }) => type.replace(/^response\./, ""));
    expect(types.slice(types.indexOf("output_text.delta"))).toEqual([
      "output_text.delta",
      "function_call_arguments.done",
      "output_item.done",
      "output_text.done",
      "content_part.done",
      "output_item.done",
      "incomplete",
    ]);
    for (const kind of ["output_item", "content_part"]) {
      const count = (what: string) => types.filter((type) => type === `${kind}.${what}`).length;
      expect(count("done")).toBe(count("added"));
    }
    expect(events.find(({ type }) => type === "response.output_text.done").text).toBe("so far");
    expect(events.at(-1).response).toMatchObject({
      id: "r",
      status: "incomplete",
      output: [{ id: "m", status: "incomplete", content: [{ text: "so far" }] }],
    });
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
    expect(text).not.toContain("BAD");
  });

  test("is one that OpenAI's client takes", async () => {
    const { text } = await answered(RESPONSES, open);
    const client = new OpenAI({ apiKey: "k", fetch: async () => new Response(text) });
    const stream = client.responses.stream({ model: "m", input: "Hi" });
    expect(await stream.finalResponse()).toMatchObject({ status: "incomplete", output_text: "so far" });
  });

  test("leaves closed what was closed", async () => {
    const closed = [
      {
        type: "response.output_item.added",
        output_index: 0,
        item: { id: "s", type: "reasoning", summary: [] },
      },
      {
        type: "response.reasoning_summary_text.delta",
        item_id: "s",
        output_index: 0,
        summary_index: 0,
        delta: "Hm.",
      },
      {
        type: "response.output_item.done",
        output_index: 0,
        item: { id: "s", type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] },
      },
    ];
    const { events } = await answered(RESPONSES, [
      ...closed,
      { type: "response.output_text.delta", ...at, delta: FLAGGED },
    ]);
    expect(events.filter(({ type }) => type === "response.output_item.done")).toHaveLength(1);
    expect(events.at(-1).response.output).toMatchObject([
      { id: "s", summary: [{ text: "Hm." }] },
      { id: "m", content: [{ text: "so" }] },
    ]);
  });

  test("a whole one keeps messages and reasoning as far as they passed, and no more", async () => {
    const { json, text } = await answered(RESPONSES, {
      ...LIFETIME,
      output: [
        {
          id: "s",
          type: "reasoning",
          summary: [{ type: "summary_text", text: "Hm." }],
          encrypted_content: "QUJD",
        },
        {
          id: "m",
          type: "message",
          role: "assistant",
          content: [
            {
              type: "output_text",
              text: FLAGGED,
              annotations: [{ type: "url_citation", url: "https://a.b/BAD" }],
              parsed: FLAGGED,
            },
          ],
        },
        { id: "f", type: "function_call", name: "f", arguments: "BAD" },
      ],
    });
    expect(text).not.toContain("BAD");
    expect(json).toMatchObject({ status: "incomplete", incomplete_details: { reason: "content_filter" } });
    expect(json.output).toMatchObject([
      { id: "s", summary: [{ text: "Hm." }] },
      { id: "m", content: [{ text: "so" }] },
    ]);
    expect(text).not.toContain("QUJD");
  });
});

describe("reasoning", () => {
  const thinking = (said: string) => [{ type: "thinking", thinking: [{ type: "text", text: said }] }];

  test("in parts of a list is judged as reasoning, and stays in its parts", async () => {
    const streamed = await answered(CHAT, [
      chunk({ role: "assistant", content: "" }),
      chunk({ content: thinking("let me ") }),
      chunk({ content: thinking("think ") }),
      chunk({ content: "it is" }),
      chunk({}, "stop"),
      DONE,
    ] as object[]);
    expect(streamed.judged).toEqual(["<think>\nlet me think \n</think>\n\nit is"]);
    const parts = streamed.events.map(({ choices }) => choices[0].delta.content).filter(Array.isArray);
    expect(
      parts
        .flat()
        .map(({ thinking: [{ text }] }) => text)
        .join(""),
    ).toBe("let me think ");
    const content = [...thinking("hm"), { type: "text", text: "it is" }];
    const whole = await answered(CHAT, message({ content }));
    expect(whole.judged).toEqual(["<think>\nhm\n</think>\n\nit is"]);
    expect(whole.json.choices[0].message.content).toEqual(content);
  });

  test("is stopped like text", async () => {
    const { text, json } = await answered(
      CHAT,
      message({ content: [...thinking(FLAGGED), { type: "text", text: "unseen" }] }),
    );
    expect(text).not.toMatch(/BAD|unseen/);
    expect(json.choices[0].finish_reason).toBe("content_filter");
  });

  test("said over again passes where it is what was judged", async () => {
    const details = (said: string) => [{ type: "reasoning.text", text: said, signature: "QUJD", index: 0 }];
    const same = await answered(
      CHAT,
      message({ reasoning: "Hm.", content: "Hi", reasoning_details: details("Hm.") }),
    );
    expect(same.json.choices[0].message.reasoning_details).toEqual(details("Hm."));
    const other = await answered(
      CHAT,
      message({ reasoning: "Hm.", content: "Hi", reasoning_details: details(FLAGGED) }),
    );
    expect(other.text).not.toContain("BAD");
  });
});

describe("an answer in JSON", () => {
  const request = { response_format: { type: "json_object" } };
  const escaped = '{"a": "so \\u0042AD B\\u0041D more"}';

  test("is judged as its parser has it, and comes out as the model wrote it", async () => {
    for (const answer of [message({ content: escaped }), [...escaped].map((content) => chunk({ content }))]) {
      const { text, outcomes } = await answered(CHAT, answer, { request });
      expect(outcomes[0].end).toBe("flagged");
      expect(text).not.toMatch(/0042AD|0041D/);
    }
    const fine = '{"a": "caf\\u00e9 \\"x\\""}';
    const { json } = await answered(CHAT, message({ content: fine }), { request });
    expect(json.choices[0].message.content).toBe(fine);
    const streamed = await answered(
      CHAT,
      [...[...fine].map((content) => chunk({ content })), chunk({}, "stop"), DONE] as object[],
      { request },
    );
    expect(text(streamed.events)).toBe(fine);
  });

  test("is stopped at the same place where a whole answer comes to who asked for a stream", async () => {
    const { json } = await answered(CHAT, message({ content: escaped }), { request, mode: "stream-first" });
    expect(json.choices[0].message.content).toBe('{"a": "so');
  });
});

test("an event stream that is cut in its last line is read to its end", async () => {
  const cut = sse([chunk({ content: FLAGGED })]).trimEnd();
  const { outcomes } = await answered(CHAT, cut, { type: "text/event-stream" });
  expect(outcomes[0].end).toBe("flagged");
});
