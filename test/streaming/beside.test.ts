import { expect, test } from "vitest";
import { textsIn, withTextsBeside } from "../../src/streaming/beside.js";

test("texts are found at any depth, in keys too; names, types and references are none", () => {
  const tool = {
    type: "function",
    name: "get_weather",
    description: "Tells the weather.",
    parameters: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      properties: {
        city: { type: "string", description: "Where to look", enum: ["New York", "Rome"] },
        "a key that says something": { $ref: "#/$defs/x" },
      },
      examples: [["One more text", "One more text"]],
      minimum: 1,
      strict: true,
      default: null,
    },
  };
  expect(textsIn(tool)).toEqual([
    "Tells the weather.",
    "Where to look",
    "New York",
    "a key that says something",
    "One more text",
  ]);
});

test("what is opaque is not looked into", () => {
  expect(textsIn({ signature: "a b", other: { signature: ["c d"], text: "e f" } }, ["signature"])).toEqual([
    "e f",
  ]);
});

test("100,000 levels of data are read like one", () => {
  let data: unknown = "deep down";
  for (let i = 0; i < 100_000; i++) data = [data];
  expect(textsIn(data)).toEqual(["deep down"]);
});

test.each<[string, string[], number]>([
  ["ahead of the last user turn", ["system", "user", "assistant", "user"], 3],
  ["ahead of the only one, behind the system's", ["system", "user"], 1],
  ["behind the last answer, where its calls are being served", ["user", "assistant", "tool"], 2],
  ["ahead of the last user turn, where the answer is begun", ["user", "assistant"], 0],
  ["behind the system's where nobody has said anything", ["system"], 1],
])("texts beside come %s", (_, roles, at) => {
  const messages = roles.map((role) => ({ role, content: role }));
  const expected = messages.toSpliced(at, 0, { role: "user", content: "a\n\nb" });
  expect(withTextsBeside(messages, ["a", "b"])).toEqual(expected);
});

test("without texts beside a conversation stays as it is", () => {
  expect(withTextsBeside([{ role: "user", content: "Hi" }], [])).toEqual([{ role: "user", content: "Hi" }]);
});
