import fc from "fast-check";
import { expect, test } from "vitest";
import { parseJson } from "../../src/validation/json.js";

test("is what JSON.parse makes of it", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 20 }), (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text));
    }),
  );
});

test.each(['["[[[["]', '{"a\\"[": "\\\\"}', '"\\\\\\\\"', "[]", "5"])("%s is taken", (text) => {
  expect(parseJson(text)).toEqual(JSON.parse(text));
});

test.each(["", "[", '"', '"\\', "{]", "\ufeff{}"])("%j is refused", (text) => {
  expect(() => parseJson(text)).toThrow(SyntaxError);
});

test("brackets within strings nest nothing, others do", () => {
  expect(parseJson(`["${"[".repeat(1000)}"]`)).toHaveLength(1);
  expect(() => parseJson(`${"[".repeat(1000)}${"]".repeat(1000)}`)).toThrow("deep");
  expect(() => parseJson(`${'{"a":'.repeat(1e6)}1${"}".repeat(1e6)}`)).toThrow("deep");
});
