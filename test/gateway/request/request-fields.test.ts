import { describe, expect, test } from "vitest";
import { RequestError } from "../../../src/gateway/api-error.js";
import { ENDPOINTS } from "../../../src/gateway/endpoints.js";
import { FieldReader } from "../../../src/gateway/request/fields.js";
import type { PolicyData } from "../../../src/moderation/policy.js";
import { policyOf } from "../../gate/scripted.js";

const TEXT = "the words in question";
const user = (content: unknown) => ({ role: "user", content });
const CHAT = "/chat/completions";
const COMPLETIONS = "/completions";
const RESPONSES = "/responses";

function read(endpoint: string, body: object, policy: PolicyData = {}, passed: string[] = []) {
  const reader = new FieldReader(policyOf(policy), passed);
  const parsed = ENDPOINTS[endpoint].parse(JSON.parse(JSON.stringify(body)), reader);
  return { ...parsed.choices[0], parsed, unjudged: reader.unjudged };
}

function refused(endpoint: string, body: object, policy: PolicyData = {}) {
  try {
    read(endpoint, body, policy);
  } catch (error) {
    if (error instanceof RequestError) return { code: error.code, told: error.body.error.message, error };
    throw error;
  }
  return null;
}

/** A chat request with one more field in its body. */
const beside = (fields: object) => ({ model: "m", messages: [user("Hi")], ...fields });
/** A chat request whose one message has more fields. */
const inMessage = (fields: object) => beside({ messages: [{ ...user("Hi"), ...fields }] });

describe("what the guard is shown of a request", () => {
  test.each<[string, string, object]>([
    [
      "a tool's description",
      CHAT,
      beside({ tools: [{ type: "function", function: { name: "f", description: TEXT } }] }),
    ],
    [
      "a description deep in a tool's schema",
      CHAT,
      beside({
        tools: [
          {
            type: "function",
            function: {
              name: "f",
              parameters: { type: "object", properties: { a: { items: { description: TEXT } } } },
            },
          },
        ],
      }),
    ],
    [
      "the name of a property",
      CHAT,
      beside({ functions: [{ name: "f", parameters: { properties: { [TEXT]: {} } } }] }),
    ],
    [
      "a schema of the answer",
      CHAT,
      beside({ response_format: { type: "json_schema", json_schema: { schema: { enum: [TEXT] } } } }),
    ],
    ["vLLM's schema", CHAT, beside({ guided_json: { description: TEXT } })],
    ["vLLM's choices", CHAT, beside({ structured_outputs: { choice: [TEXT] } })],
    ["llama.cpp's schema", CHAT, beside({ json_schema: { title: TEXT } })],
    [
      "a custom tool's grammar",
      CHAT,
      beside({ tools: [{ type: "custom", custom: { format: { definition: TEXT } } }] }),
    ],
    [
      "a prediction",
      CHAT,
      beside({ prediction: { type: "content", content: [{ type: "text", text: TEXT }] } }),
    ],
    ["documents", CHAT, beside({ documents: [{ title: "t", text: TEXT }] })],
    [
      "a list of words for the template",
      CHAT,
      beside({ chat_template_kwargs: { persona: TEXT.split(" ") } }),
    ],
    ["a text for the template", CHAT, beside({ chat_template_kwargs: { persona: { deep: TEXT } } })],
    ["metadata with a text in it", CHAT, beside({ metadata: { note: TEXT } })],
    ["a text in place of a name", CHAT, beside({ user: TEXT })],
    ["a text in place of a model", CHAT, beside({ model: TEXT })],
    ["OpenRouter's plugins", CHAT, beside({ plugins: [{ id: "web", search_prompt: TEXT }] })],
    ["a text where an object belongs", CHAT, beside({ prediction: TEXT })],
    ["a list where an object belongs", CHAT, beside({ structured_outputs: [TEXT] })],
    ["a name", CHAT, inMessage({ name: TEXT })],
    ["reasoning of an earlier answer", CHAT, inMessage({ role: "assistant", reasoning_content: TEXT })],
    ["reasoning under its other names", CHAT, inMessage({ reasoning: TEXT })],
    ["Ollama's thinking", CHAT, inMessage({ thinking: TEXT })],
    [
      "OpenRouter's reasoning",
      CHAT,
      inMessage({ reasoning_details: [{ type: "reasoning.summary", summary: TEXT }] }),
    ],
    ["a refusal", CHAT, inMessage({ role: "assistant", refusal: TEXT })],
    [
      "what an annotation quotes",
      CHAT,
      inMessage({ annotations: [{ type: "url_citation", url_citation: { title: TEXT } }] }),
    ],
    [
      "a thinking part",
      CHAT,
      beside({ messages: [user([{ type: "thinking", thinking: [{ type: "text", text: TEXT }] }])] }),
    ],
    ["a part without a type", CHAT, beside({ messages: [user([{ text: TEXT }])] })],
    ["a part that is a string", CHAT, beside({ messages: [user([TEXT])] })],
    [
      "developer",
      CHAT,
      beside({ messages: [{ role: "developer", content: [{ type: "text", text: TEXT }] }] }),
    ],
    [
      "what comes before a </think>",
      CHAT,
      beside({ messages: [{ role: "assistant", content: `${TEXT}</think>Hi` }, user("Hi")] }),
    ],
    [
      "arguments of a call",
      CHAT,
      beside({
        messages: [
          {
            role: "assistant",
            content: null,
            tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: TEXT } }],
          },
          { role: "tool", tool_call_id: "1", content: "ok" },
        ],
      }),
    ],
    [
      "arguments of a call that ends the request",
      CHAT,
      beside({
        messages: [
          user("Hi"),
          { role: "assistant", tool_calls: [{ function: { name: "f", arguments: { a: TEXT } } }] },
        ],
      }),
    ],
    [
      "a call of a custom tool",
      CHAT,
      beside({
        messages: [
          { role: "assistant", tool_calls: [{ type: "custom", custom: { name: "f", input: TEXT } }] },
          user("Hi"),
        ],
      }),
    ],
    [
      "a call in the old way",
      CHAT,
      beside({
        messages: [
          { role: "assistant", content: null, function_call: { name: TEXT, arguments: "{}" } },
          user("Hi"),
        ],
      }),
    ],
    ["a tool's answer", CHAT, beside({ messages: [{ role: "function", name: "f", content: TEXT }] })],
    ["a suffix", COMPLETIONS, { prompt: "Hi", suffix: TEXT }],
    ["a schema", COMPLETIONS, { prompt: "Hi", response_format: { description: TEXT } }],
    ["instructions", RESPONSES, { instructions: TEXT, input: [] }],
    [
      "tools",
      RESPONSES,
      { input: "Hi", tools: [{ type: "function", name: "f", description: TEXT, parameters: {} }] },
    ],
    [
      "a text format",
      RESPONSES,
      { input: "Hi", text: { format: { type: "json_schema", schema: { description: TEXT } } } },
    ],
    ["variables of a stored prompt", RESPONSES, { prompt: { id: "p", variables: { a: TEXT } }, input: "Hi" }],
    [
      "parts as variables",
      RESPONSES,
      { prompt: { id: "p", variables: { a: { type: "input_text", text: TEXT } } } },
    ],
    [
      "a reasoning summary",
      RESPONSES,
      { input: [{ type: "reasoning", summary: [{ type: "summary_text", text: TEXT }] }, user("Hi")] },
    ],
    [
      "a call's arguments",
      RESPONSES,
      { input: [{ type: "function_call", name: "f", call_id: "c", arguments: TEXT }, user("Hi")] },
    ],
    [
      "a call's output",
      RESPONSES,
      {
        input: [{ type: "function_call_output", call_id: "c", output: [{ type: "input_text", text: TEXT }] }],
      },
    ],
    [
      "what the server ran",
      RESPONSES,
      { input: [{ type: "code_interpreter_call", code: "1", outputs: [{ type: "logs", logs: TEXT }] }] },
    ],
    [
      "what the server found",
      RESPONSES,
      { input: [{ type: "file_search_call", queries: [], results: [{ text: TEXT }] }] },
    ],
    [
      "another server's tool",
      RESPONSES,
      { input: [{ type: "mcp_call", name: "f", arguments: "{}", output: TEXT }] },
    ],
    ["a shell's output", RESPONSES, { input: [{ type: "shell_call_output", output: [{ stdout: TEXT }] }] }],
    [
      "a message of the assistant's",
      RESPONSES,
      { input: [{ role: "assistant", content: [{ type: "output_text", text: TEXT }] }, user("Hi")] },
    ],
  ])("%s (%s)", (_, endpoint, body) => {
    const { messages, prefill } = read(endpoint, body);
    expect(JSON.stringify([messages, prefill])).toContain(TEXT);
  });

  const system = { role: "system", content: "Be kind." };
  const answer = { role: "assistant", content: "Hello" };

  test("what goes with each request is a turn of its own ahead of all that is said, and counts at every turn", () => {
    const tools = [{ type: "function", function: { name: "f", description: TEXT } }];
    const own = { ...user(`f\n${TEXT}`), standing: true };
    const of = (...messages: object[]) => read(CHAT, { messages, tools }).messages;
    expect(of(system, user("Hi"))).toEqual([system, own, user("Hi")]);
    expect(of(user("Hi"), answer, user("a"), user("b"))).toEqual([
      own,
      user("Hi"),
      answer,
      user("a"),
      user("b"),
    ]);
    expect(of(system, user("Hi"), answer)).toEqual([system, own, user("Hi")]);
    expect(of(system)).toEqual([system, own]);
    expect(of(system, user(" "))).toEqual([system, own, user(" ")]);
  });

  test("what may be of one request alone is a turn of its own, ahead of what is asked since the last answer", () => {
    const of = (...messages: object[]) => read(CHAT, { messages, documents: [TEXT] }).messages;
    expect(of(system, user("Hi"))).toEqual([system, user(TEXT), user("Hi")]);
    expect(of(user("Hi"), answer, user("a"), user("b"))).toEqual([
      user("Hi"),
      answer,
      user(TEXT),
      user("a"),
      user("b"),
    ]);
    expect(of(system, user("Hi"), answer)).toEqual([system, user(TEXT), user("Hi")]);
  });

  test("and between a call and its answers, which stay together", () => {
    const call = {
      role: "assistant",
      content: "",
      tool_calls: [{ function: { name: "f", arguments: "{}" } }],
    };
    const result = (content: string) => ({ role: "tool", tool_call_id: "1", content });
    const { messages } = read(CHAT, {
      messages: [user("Hi"), call, result(""), result("ok")],
      documents: [TEXT],
    });
    expect(messages.map(({ role }) => role)).toEqual(["user", "assistant", "user", "tool", "tool"]);
  });

  test("where nothing is asked it joins the last message, so that this is ruled on", () => {
    const of = (...messages: object[]) => read(CHAT, { messages, documents: [TEXT] }).messages;
    expect(of({ role: "system", content: "a" })).toEqual([{ role: "system", content: `a\n\n${TEXT}` }]);
    expect(of({ role: "system", content: "a" }, user(" "))).toEqual([
      { role: "system", content: "a" },
      user(TEXT),
    ]);
  });

  test("a text that comes twice is shown once", () => {
    const { messages } = read(CHAT, beside({ documents: [TEXT, TEXT] }));
    expect(messages[0].content).toBe(TEXT);
  });

  test("an answer that goes on after a tool's answer is judged with what was said before it", () => {
    const call = (content: string) => ({
      role: "assistant",
      content,
      tool_calls: [{ function: { name: "f", arguments: "{}" } }],
    });
    const result = { role: "tool", tool_call_id: "1", content: "ok" };
    const of = (...messages: object[]) => read(CHAT, { messages: [user("Hi"), ...messages] }).prefill;
    expect(of(call("You are a"), result, call(" stu"), result)).toBe("You are a stu");
    expect(of({ role: "assistant", content: "Earlier." }, user("b"), call("Now"), result)).toBe("Now");
    expect(of(call("a".repeat(1000)), result)).toHaveLength(512);
    expect(of(call("Done."), result, user("Thanks"))).toBe("");
  });

  test.each(["user", "system", "developer", "tool", "function"])(
    "calls in a message of the %s role's are text, as templates do not show them",
    (role) => {
      const calls = [{ id: "1", type: "function", function: { name: "f", arguments: `{"q":"${TEXT}"}` } }];
      const { messages } = read(CHAT, {
        messages: [user("Hi"), { role, content: "x", tool_calls: calls, function_call: calls[0].function }],
      });
      expect(messages.at(-1)).not.toHaveProperty("tool_calls");
      expect(messages.at(-1)?.content.split(TEXT)).toHaveLength(3);
    },
  );

  test("an answer that the request begins is judged as one", () => {
    const { messages, prefill } = read(CHAT, {
      messages: [user("Hi"), { role: "assistant", content: TEXT }],
    });
    expect(messages).toEqual([user("Hi")]);
    expect(prefill).toBe(TEXT);
  });
});

describe("what cannot be judged", () => {
  test.each<[string, string, object]>([
    ["a field of the body that nobody knows", CHAT, beside({ extra_prompt: TEXT })],
    ["one of another endpoint", CHAT, beside({ prompt: TEXT })],
    ["a list that may be token ids", CHAT, beside({ input_ids: [1, 2, 3] })],
    ["a field of a message", CHAT, inMessage({ hidden: { deep: TEXT } })],
    [
      "a field of a part",
      CHAT,
      beside({ messages: [user([{ type: "text", text: "Hi", input_text: TEXT }])] }),
    ],
    ["a field of a tool call", CHAT, inMessage({ tool_calls: [{ function: { name: "f" }, note: TEXT }] })],
    ["embeddings", COMPLETIONS, { prompt: "Hi", prompt_embeds: "AAAA" }],
    ["a chat template", CHAT, beside({ chat_template: TEXT })],
    ["data that the server fetches", CHAT, beside({ data_sources: [{ type: "azure_search" }] })],
    [
      "a prototype",
      CHAT,
      JSON.parse(`{"messages":[{"role":"user","content":"Hi"}],"__proto__":{"messages":["${TEXT}"]}}`),
    ],
    [
      "a field of an item",
      RESPONSES,
      { input: [{ type: "function_call", name: "f", arguments: "", note: TEXT }] },
    ],
    ["a field by the name of an object's own", CHAT, inMessage({ constructor: TEXT })],
  ])("%s (%s) is refused by name", (_, endpoint, body) => {
    const { code, told, error } = refused(endpoint, body) ?? {};
    expect(code).toBe("field_unjudged");
    expect(told).toMatch(/The guard cannot judge the field ".+" of .+ --pass-fields .+ "unjudged": "pass"/);
    expect(error?.message).not.toContain(TEXT);
  });

  test.each<[string, string, object]>([
    ["a part", CHAT, beside({ messages: [user([{ type: "poem", poem: TEXT }])] })],
    ["a part whose type is no text", CHAT, beside({ messages: [user([{ type: {}, text: TEXT }])] })],
    ["an item", RESPONSES, { input: [{ type: "dream", text: TEXT }] }],
  ])("%s of a type that nobody knows is refused", (_, endpoint, body) => {
    expect(refused(endpoint, body)).toMatchObject({ code: "part_unjudged" });
  });

  test("passes where the policy says so, and is counted", () => {
    const body = beside({ extra: TEXT, other: [1], messages: [user([{ type: "poem", poem: TEXT }, "Hi"])] });
    expect(read(CHAT, body, { unjudged: "pass" })).toMatchObject({
      messages: [user("Hi")],
      unjudged: ["field", "field", "part"],
    });
  });

  test("a field passes that is named", () => {
    expect(read(CHAT, beside({ extra: TEXT }), {}, ["extra"]).unjudged).toEqual(["field"]);
    expect(refused(CHAT, beside({ extra: TEXT }))?.code).toBe("field_unjudged");
  });

  test("a field in other letters is refused whatever the policy", () => {
    for (const body of [
      beside({ Messages: [TEXT] }),
      beside({ Tools: TEXT }),
      beside({ toolſ: TEXT }),
      inMessage({ Content: TEXT }),
    ]) {
      expect(refused(CHAT, body, { unjudged: "pass" })?.code).toBe("body_invalid");
    }
  });

  test("what a server sealed passes, and is counted", () => {
    const items = [{ type: "reasoning", id: "r", summary: [], encrypted_content: "gAAAA" }, user("Hi")];
    expect(read(RESPONSES, { input: items })).toMatchObject({ messages: [user("Hi")], unjudged: ["sealed"] });
  });

  test("a text in the place of what a server sealed is shown to the guard", () => {
    const item = { type: "reasoning", id: "r", summary: [], encrypted_content: TEXT };
    const signed = {
      role: "assistant",
      content: "a",
      extra_content: { google: { thought_signature: TEXT } },
    };
    for (const [endpoint, body] of [
      [RESPONSES, { input: [item, user("Hi")] }],
      [CHAT, beside({ messages: [signed, user("Hi")] })],
    ] as const) {
      expect(JSON.stringify(read(endpoint, body).messages), endpoint).toContain(TEXT);
    }
  });

  test("a custom call's input is shown to the guard, also where it says that it has no arguments", () => {
    const call = { type: "custom_tool_call", call_id: "t", name: "f", input: TEXT, arguments: null };
    expect(JSON.stringify(read(RESPONSES, { input: [call, user("Hi")] }).messages)).toContain(TEXT);
  });

  test("attachments are another matter", () => {
    const body = beside({
      messages: [
        user([
          { type: "image_url", image_url: { url: "x" } },
          { type: "text", text: "Hi" },
        ]),
      ],
    });
    expect(() => read(CHAT, body, { unjudged: "pass" })).toThrow("the guard reads text alone");
    expect(read(CHAT, body, { attachments: "ignore" })).toMatchObject({
      messages: [user("Hi")],
      unjudged: ["attachment"],
    });
  });
});

describe("what a server has stored", () => {
  test("what comes with it is judged, and it is counted", () => {
    const body = {
      previous_response_id: "resp_1",
      input: [{ type: "item_reference", id: "msg_1" }, user("Hi")],
    };
    expect(read(RESPONSES, body)).toMatchObject({ messages: [user("Hi")], unjudged: ["stored", "stored"] });
  });

  test.each([
    { conversation: "conv_1", input: [] },
    { prompt: { id: "pmpt_1", version: "2" } },
    { previous_response_id: "resp_1" },
    { input: [{ type: "item_reference", id: "msg_1" }], previous_response_id: "resp_1" },
  ])("with nothing to judge it is refused, or passes where the policy says so: %j", (body) => {
    expect(refused(RESPONSES, body)).toMatchObject({ code: "stored_unjudged" });
    expect(read(RESPONSES, body, { unjudged: "pass" }).messages).toEqual([user("")]);
  });

  test("a conversation gets no prompt that has not passed", () => {
    expect(read(RESPONSES, { conversation: { id: "conv_1" }, input: "Hi" }).parsed.promptFirst).toBe(true);
    expect(read(RESPONSES, { input: "Hi" }).parsed.promptFirst).toBe(false);
  });
});

test.each<[string, string, unknown]>([
  ["no list of messages", CHAT, { messages: TEXT }],
  ["a message that is none", CHAT, { messages: [TEXT] }],
  ["a role that nobody has", CHAT, { messages: [{ role: TEXT, content: "Hi" }] }],
  ["a content of another kind", CHAT, { messages: [user({ text: TEXT })] }],
  ["calls that are none", CHAT, inMessage({ tool_calls: [TEXT] })],
  ["a call without a name", CHAT, inMessage({ tool_calls: [{ function: { name: { a: TEXT } } }] })],
  ["a stream that is neither", CHAT, beside({ stream: TEXT })],
  [
    "a call of two kinds",
    CHAT,
    inMessage({ tool_calls: [{ function: { name: "f" }, custom: { name: "g", input: TEXT } }] }),
  ],
  ["a call in the old way that is none", CHAT, inMessage({ function_call: TEXT })],
  ["half a choice", CHAT, beside({ n: TEXT })],
  ["ids for a prompt", COMPLETIONS, { prompt: [1, 2] }],
  ["a suffix of another kind", COMPLETIONS, { prompt: "Hi", suffix: { a: TEXT } }],
  ["items that are none", RESPONSES, { input: [TEXT] }],
  ["instructions of another kind", RESPONSES, { instructions: [TEXT], input: "Hi" }],
  ["no input at all", RESPONSES, { input: [] }],
])("%s: an error that quotes nobody to the log", (_, endpoint, body) => {
  const { code, error } = refused(endpoint, body as object) ?? {};
  expect(code).toMatch(/^(messages_invalid|body_invalid|invalid_n|prompt_unreadable)$/);
  expect(error?.message).not.toContain(TEXT);
});
