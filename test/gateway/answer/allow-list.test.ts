import { describe, expect, test } from "vitest";
import {
  any,
  categories,
  echo,
  either,
  figures,
  label,
  level,
  list,
  object,
  opaque,
  optionalList,
  type Reader,
  repeated,
  role,
  type Shape,
  text,
  typed,
  url,
  word,
} from "../../../src/gateway/answer/allow-list.js";
import { OpenFields } from "../../../src/gateway/answer/open-fields.js";

const reader: Reader = {
  open: new OpenFields(["open"]),
  request: { model: "the model of mine", tools: [{ a: 1 }] },
  content: "what was said",
  tools: "pass",
  place: "",
  call: () => {},
  repeats: (own) => "what was said".includes(own),
  text: (own) => own.toUpperCase(),
  opened: (value) => value,
};
const read = (shape: Shape, value: unknown) => shape(value, reader);

describe("strings pass where they are no text", () => {
  test.each<[string, Shape, string, boolean]>([
    ["a word", word, "chatcmpl-9f/a.b:c=d", true],
    ["none", word, "", true],
    ["a word of 128 characters", word, "a".repeat(128), true],
    ["one of 129", word, "a".repeat(129), false],
    ["two words", word, "a b", false],
    ["a word of another script", word, "日本", false],
    ["a line end", word, "a\n", false],
    ["four words as a label", label, "Google AI Studio (beta)", true],
    ["five", label, "one two three four five", false],
    ["words far apart", label, "one  two", false],
    ["a long label", label, "a".repeat(129), false],
    ["an address", url, "https://example.com/a?b=c#d", true],
    ["one with a space", url, "https://example.com/a b", false],
    ["one of another scheme", url, "javascript:alert(1)", false],
    ["one of 2100 characters", url, `https://example.com/${"a".repeat(2100)}`, false],
    ["base64", opaque, "gAAAA-_B+/8==", true],
    ["base64 with a space", opaque, "gA AA", false],
    ["base64 without end", opaque, "a".repeat(2 ** 20 + 1), false],
    ["a role", role, "assistant", true],
    ["no role", role, "BAD", false],
    ["what was said again", echo, "was", true],
    ["what was not", echo, "BAD", false],
  ])("%s", (_, shape, value, passes) => {
    expect(read(shape, value)).toBe(passes ? value : undefined);
  });
});

describe("objects", () => {
  const shape = level({ id: word, said: text("content", "said"), more: object({ id: word }) });

  test("have the fields of their table, and scalars under names that are names", () => {
    const value = {
      id: "i",
      said: "a b",
      more: { id: "m", note: "text" },
      note: "text",
      n: 1,
      yes: true,
      none: null,
    };
    expect(read(shape, value)).toEqual({
      id: "i",
      said: "A B",
      more: { id: "m" },
      n: 1,
      yes: true,
      none: null,
    });
    expect(read(shape, { "to be read": 1, 日本: 2, [`a${"b".repeat(64)}`]: 3, qwen3guard: 4 })).toEqual({});
  });

  test("have no more than 32 scalars that nobody knows", () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`n${i}`, i]));
    expect(Object.keys(read(shape, many) as object)).toHaveLength(32);
  });

  test("no names of Object's own", () => {
    const value = JSON.parse('{"__proto__": {"id": "i"}, "constructor": "BAD", "id": "i"}');
    expect(Object.entries(read(shape, value) as object)).toEqual([["id", "i"]]);
  });

  test("null passes for any field; what is opened as it is, and is remembered", () => {
    expect(read(shape, { id: null, said: null, more: null, open: { a: ["b c"] } })).toEqual({
      id: null,
      said: null,
      more: null,
      open: { a: ["b c"] },
    });
    expect([...reader.open.passed]).toEqual(["open"]);
  });

  test.each([["a text"], [["a list"]], [5], [true]])(
    "%j in place of one is invalid, or left out",
    (value) => {
      expect(() => read(shape, value)).toThrow(/holds something else where an object belongs/);
      expect(read(object({}), value)).toBeUndefined();
    },
  );

  test("go by their type; of an unknown one nothing passes", () => {
    const parts = list(typed({ a: { x: word }, b: { y: word } }, "a"));
    const values = [
      { type: "a", x: "1", y: "no text" },
      { type: "b", y: "2" },
      { type: "c", x: "3" },
      { x: "4" },
      { type: "toString" },
    ];
    expect(read(parts, values)).toEqual([{ type: "a", x: "1" }, { type: "b", y: "2" }, { x: "4" }]);
    expect(() => read(parts, ["a text"])).toThrow("something else");
    expect(() => read(parts, "a text")).toThrow("something else where a list belongs");
    expect(read(optionalList(word), "a text")).toBeUndefined();
  });
});

test("a text that is none cannot be judged", () => {
  for (const value of [5, true, {}, ["a"]])
    expect(() => read(text("content", "said"), value)).toThrow("cannot read");
});

test("figures are numbers at any depth up to five, and words under the names given", () => {
  const value = {
    a: 1,
    b: { c: { d: { e: { f: { g: 1 } } } } },
    type: "TEXT",
    note: "text",
    ids: [1, 2],
    list: [{ n: 1, s: "text" }],
  };
  expect(read(figures("type"), value)).toEqual({
    a: 1,
    b: { c: { d: { e: {} } } },
    type: "TEXT",
    ids: [],
    list: [{ n: 1 }],
  });
  expect(read(figures(), "text")).toBeUndefined();
  expect(read(figures(), { "to be read": 1 })).toEqual({});
});

test("categories have numbers, booleans and lists of words", () => {
  const value = {
    "self-harm/intent": true,
    hate: 0.5,
    types: ["text", "a text"],
    note: "text",
    "to be read": 1,
  };
  expect(read(categories, value)).toEqual({ "self-harm/intent": true, hate: 0.5, types: ["text"] });
});

test("what was asked passes again, and nothing in its place", () => {
  expect(read(repeated("model"), "the model of mine")).toBe("the model of mine");
  expect(read(repeated("model"), "another")).toBeUndefined();
  expect(read(repeated("tools"), [{ a: 1 }])).toEqual([{ a: 1 }]);
  expect(read(either(repeated("model"), word), "another")).toBe("another");
});

test("what passes as it is has an end", () => {
  const nested = (depth: number) => JSON.parse(`${"[".repeat(depth)}${"]".repeat(depth)}`);
  expect(read(any, nested(64))).toEqual(nested(64));
  expect(() => read(any, nested(10_000))).toThrow("values within values without end");
});
