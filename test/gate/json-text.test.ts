import fc from "fast-check";
import { expect, test } from "vitest";
import { JsonText } from "../../src/gate/json-text.js";

/** Reads a text in chunks of some size. */
function read(text: string, size: number): { json: JsonText; read: string } {
  const json = new JsonText();
  let result = "";
  for (let at = 0; at < text.length; at += size) result += json.push(text.slice(at, at + size));
  return { json, read: result + json.end() };
}

test.each([
  ['{"\\u0061\\u006E": "\\u0073tupid"}', '{"an": "stupid"}'],
  ['"\\ud83d\\ude00 \\"quoted\\" \\/ \\b\\f\\n\\r\\t"', '"😀 "quoted" / \b\f\n\r\t"'],
  ['"\\\\u0073 is no escape"', '"\\u0073 is no escape"'],
  ['a stray " and then "\\u0073"', 'a stray " and then "s"'],
  ['"\\x73 \\u00zz \\q"', '"\\x73 \\u00zz \\q"'],
  ['"cut \\u00', '"cut \\u00'],
  ['"cut \\', '"cut \\'],
])("%s reads as its parser has it, however it is cut", (source, expected) => {
  for (const size of [1, 2, 3, 5, 7, source.length]) expect(read(source, size).read).toBe(expected);
});

test("the strings of any JSON read as their parser has them, and turn back byte for byte, wherever they are cut", () => {
  const escaped = (text: string) =>
    [...text].map((_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, "0")}`).join("");
  const string = fc.string({ unit: "binary-ascii" }).chain((text) =>
    fc.array(fc.boolean(), { minLength: text.length, maxLength: text.length }).map((which) => ({
      text,
      json: `"${[...text].map((c, i) => (which[i] ? escaped(c) : JSON.stringify(c).slice(1, -1))).join("")}"`,
    })),
  );
  fc.assert(
    fc.property(
      string,
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 9 }),
      (value, size, take) => {
        const { json, read: result } = read(value.json, size);
        expect(result).toBe(`"${JSON.parse(value.json)}"`);
        let source = "";
        for (let at = 0; at < result.length; at += take)
          source += json.take(Math.min(take, result.length - at));
        expect(source).toBe(value.json);
      },
    ),
  );
});

test("what is turned back is the source of what was read up to there, escapes whole", () => {
  const { json } = read('{"a": "\\u0073\\n!"}', 4);
  expect(json.take(7)).toBe('{"a": "');
  expect(json.take(1)).toBe("\\u0073");
  expect(json.take(2)).toBe("\\n!");
  expect(json.take(99)).toBe('"}');
});
