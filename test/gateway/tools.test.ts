import { describe, expect, test } from "vitest";
import { ENDPOINTS } from "../../src/gateway/endpoints.js";
import { FieldReader } from "../../src/gateway/request/fields.js";
import type { PolicyData } from "../../src/moderation/policy.js";
import { policyOf } from "../gate/scripted.js";
import { answered, CHAT, DONE, MESSAGES, OLLAMA_CHAT, RESPONSES } from "./answering.js";
import { chunk } from "./upstream.js";

/** The scripted guard flags words with BAD in them. */
const SAFE = '{"city":"Oslo"}';
const FLAGGED = '{"query":"a BAD BAD thing"}';
const HIDDEN = '{"query":"a \\u0042AD B\\u0041D thing"}';
const policy: PolicyData = { tools: "judge" };

/** Pieces of some characters, as models send them. */
const pieces = (text: string) => text.match(/.{1,5}/gs) as string[];
const toolCalls = (name: string, given: string) => [
  { id: "c", type: "function", function: { name, arguments: given } },
];

/** What a client makes of a call's pieces, or of a call. */
const said = (text: string) =>
  [...text.matchAll(/"(?:arguments|partial_json|delta)":("(?:[^"\\]|\\.)*")/g)]
    .map(([, own]) => JSON.parse(own))
    .join("");

/** A call of a tool in each protocol, in a stream and in a whole answer. */
const CALLS: Record<
  string,
  { endpoint: string; answer: (name: string, given: string) => object | object[] }
> = {
  "chat completions, streamed": {
    endpoint: CHAT,
    answer: (name, given) => [
      chunk({ role: "assistant", content: null, tool_calls: [{ index: 0, ...toolCalls(name, "")[0] }] }),
      ...pieces(given).map((own) => chunk({ tool_calls: [{ index: 0, function: { arguments: own } }] })),
      chunk({}, "tool_calls"),
      DONE as unknown as object,
    ],
  },
  "chat completions, streamed at once": {
    endpoint: CHAT,
    answer: (name, given) => [
      chunk({ tool_calls: [{ index: 0, ...toolCalls(name, given)[0] }] }),
      chunk({}, "tool_calls"),
      DONE as unknown as object,
    ],
  },
  "chat completions, an old call": {
    endpoint: CHAT,
    answer: (name, given) => [
      chunk({ function_call: { name, arguments: "" } }),
      ...pieces(given).map((own) => chunk({ function_call: { arguments: own } })),
      chunk({}, "function_call"),
      DONE as unknown as object,
    ],
  },
  "chat completions, whole": {
    endpoint: CHAT,
    answer: (name, given) => ({
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: null, tool_calls: toolCalls(name, given) },
          finish_reason: "tool_calls",
        },
      ],
    }),
  },
  "responses, streamed": {
    endpoint: RESPONSES,
    answer: (name, given) => {
      const at = { item_id: "i", output_index: 0 };
      const item = {
        id: "i",
        type: "function_call",
        call_id: "c",
        name,
        arguments: "",
        status: "in_progress",
      };
      const done = { ...item, arguments: given, status: "completed" };
      const response = { id: "r", object: "response", status: "completed", output: [done] };
      return [
        { type: "response.created", response: { ...response, status: "in_progress", output: [] } },
        { type: "response.output_item.added", output_index: 0, item },
        ...pieces(given).map((delta) => ({ type: "response.function_call_arguments.delta", ...at, delta })),
        { type: "response.function_call_arguments.done", ...at, arguments: given },
        { type: "response.output_item.done", output_index: 0, item: done },
        { type: "response.completed", response },
      ];
    },
  },
  "responses, whole": {
    endpoint: RESPONSES,
    answer: (name, given) => ({
      id: "r",
      status: "completed",
      output: [{ id: "i", type: "function_call", call_id: "c", name, arguments: given }],
    }),
  },
  "Anthropic, streamed": {
    endpoint: MESSAGES,
    answer: (name, given) => [
      { type: "message_start", message: { id: "m", type: "message", role: "assistant", content: [] } },
      {
        type: "content_block_start",
        index: 0,
        content_block: { type: "tool_use", id: "t", name, input: {} },
      },
      ...pieces(given).map((partial_json) => ({
        type: "content_block_delta",
        index: 0,
        delta: { type: "input_json_delta", partial_json },
      })),
      { type: "content_block_stop", index: 0 },
      { type: "message_delta", delta: { stop_reason: "tool_use" }, usage: { output_tokens: 1 } },
      { type: "message_stop" },
    ],
  },
  "Anthropic, whole": {
    endpoint: MESSAGES,
    answer: (name, given) => ({
      type: "message",
      role: "assistant",
      content: [{ type: "tool_use", id: "t", name, input: JSON.parse(given) }],
      stop_reason: "tool_use",
    }),
  },
  "Ollama, streamed": {
    endpoint: OLLAMA_CHAT,
    answer: (name, given) => [
      {
        model: "m",
        message: {
          role: "assistant",
          content: "",
          tool_calls: [{ function: { name, arguments: JSON.parse(given) } }],
        },
        done: false,
      },
      { model: "m", message: { role: "assistant", content: "" }, done: true, done_reason: "stop" },
    ],
  },
  "Ollama, whole": {
    endpoint: OLLAMA_CHAT,
    answer: (name, given) => ({
      model: "m",
      message: {
        role: "assistant",
        content: "",
        tool_calls: [{ function: { name, arguments: JSON.parse(given) } }],
      },
      done: true,
    }),
  },
};

describe.each(Object.entries(CALLS))("%s", (_, { endpoint, answer }) => {
  test("a call passes as it came once it is judged", async () => {
    const judged = await answered(endpoint, answer("weather", SAFE), { policy });
    const unjudged = await answered(endpoint, answer("weather", SAFE));
    const bare = (text: string) => text.replace(/resp_\w+|msg_\w+/g, "");
    expect(bare(judged.text)).toBe(bare(unjudged.text));
    expect(said(judged.text) + judged.text).toContain("Oslo");
    expect(judged.judged.join("")).toContain("Oslo");
    expect(judged.judged.join("")).toContain("weather");
    expect(unjudged.judged.join("")).not.toContain("Oslo");
  });

  test.each([FLAGGED, HIDDEN])("what is flagged of it never reaches the client: %s", async (given) => {
    const { text, outcomes } = await answered(endpoint, answer("search", given), { policy });
    expect(text).not.toMatch(/BAD|u0042AD|B.u0041D/);
    expect(said(text)).not.toMatch(/BA|u0042|thing/);
    expect(outcomes[0].end).toBe("flagged");
    expect(text).toMatch(/content_filter|refusal/);
  });

  test("nor does a flagged name", async () => {
    const flagged = { ...policy, debounce: 1 };
    const { text, outcomes } = await answered(endpoint, answer("make_BAD", SAFE), { policy: flagged });
    expect(text).not.toMatch(/BAD|Oslo/);
    expect(outcomes[0].end).toBe("flagged");
  });

  test("where the policy refuses calls, an answer with one is an error", async () => {
    const { text } = await answered(endpoint, answer("weather", SAFE), { policy: { tools: "refuse" } });
    expect(text).toContain("tool_call_refused");
    expect(text).not.toContain("Oslo");
  });
});

test("calls whose pieces come in turns are each read as one text", async () => {
  const piece = (index: number, given: string) =>
    chunk({ tool_calls: [{ index, function: { arguments: given } }] });
  const { outcomes } = await answered(
    CHAT,
    [
      piece(0, '{"q":"so BA'),
      piece(1, '{"q":"fine'),
      piece(0, "D B"),
      piece(1, " and"),
      piece(0, 'AD thing"}'),
      chunk({}, "tool_calls"),
      DONE,
    ] as object[],
    { policy: { tools: "judge", debounce: 1 } },
  );
  expect(outcomes[0].end).toBe("flagged");
});

test("an interpreter's code is judged as what it is", async () => {
  const at = { item_id: "i", output_index: 0 };
  const { text, outcomes } = await answered(
    RESPONSES,
    [
      { type: "response.created", response: { id: "r", output: [] } },
      {
        type: "response.output_item.added",
        output_index: 0,
        item: { id: "i", type: "code_interpreter_call", container_id: "k", code: "" },
      },
      ...pieces("print('BAD BAD')").map((delta) => ({
        type: "response.code_interpreter_call_code.delta",
        ...at,
        delta,
      })),
    ],
    { policy },
  );
  expect(text).not.toContain("BAD BAD");
  expect(outcomes[0].end).toBe("flagged");
});

describe("what tools have answered", () => {
  const hi = { role: "user", content: "Hi" };
  const calls = toolCalls("read", "{}");
  const result = { role: "tool", tool_call_id: "c", content: "a page" };
  const messages = [
    hi,
    { role: "assistant", content: null, tool_calls: calls },
    result,
    { ...hi, content: "Go on." },
  ];
  const block = { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "a page" }] };

  test.each<[string, object]>([
    [CHAT, { messages }],
    [MESSAGES, { messages: [hi, block, { ...hi, content: "Go on." }] }],
    [RESPONSES, { input: [hi, { type: "function_call_output", call_id: "c", output: "a page" }] }],
    [OLLAMA_CHAT, { messages }],
  ])("%s: is judged, or passes and is counted", (endpoint, body) => {
    const read = (data: PolicyData) => {
      const reader = new FieldReader(policyOf(data));
      return {
        shown: JSON.stringify(ENDPOINTS[endpoint].parse({ ...body }, reader)),
        unjudged: reader.unjudged,
      };
    };
    expect(read({}).shown).toContain("a page");
    expect(read({}).unjudged).toEqual([]);
    const passed = read({ toolResults: "pass" });
    expect(passed.shown).not.toContain("a page");
    expect(passed.shown).toContain("Hi");
    expect(passed.unjudged).toEqual(["tool"]);
  });
});
