import fc from "fast-check";
import { expect, test } from "vitest";
import { parseRow } from "../../src/scoring/row.js";

const lineOf = (text: string | Uint8Array) => ({ bytes: Buffer.from(text), length: Buffer.byteLength(text) });
const read = (text: string | Uint8Array) => parseRow(lineOf(text), "found");
const codeOf = (text: string | Uint8Array) => {
  const row = read(text);
  return "problem" in row ? row.problem.code : null;
};

test("what is found is put at a row's end; all before it stays byte for byte", () => {
  const line = ' \t{"id": 12345678901234567890, "a":1.0,\t"prompt":"\\u0068i" }';
  expect(read(`${line}\r`).with({ risk: "Safe" })).toBe(
    ' \t{"id": 12345678901234567890, "a":1.0,\t"prompt":"\\u0068i","found":{"risk":"Safe"}}',
  );
});

test("any JSON object comes out as it was, with one field more", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(3), (row, spaces) => {
      const line = JSON.stringify(row, null, spaces).replaceAll("\n", " ");
      const { found, ...rest } = JSON.parse(read(line).with({ x: 1 }));
      expect({ rest, found }).toEqual({ rest: JSON.parse(line), found: { x: 1 } });
    }),
  );
});

test.each([
  ['{"prompt":"Hi"}', [{ role: "user", content: "Hi" }]],
  [
    '{"prompt":"Hi","response":"Ho"}',
    [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Ho" },
    ],
  ],
  ['{"prompt":"Hi","response":null,"messages":null}', [{ role: "user", content: "Hi" }]],
  [
    '{"message":[{"role":"user","content":"Hi"}],"response":"Ho"}',
    [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Ho" },
    ],
  ],
])("the conversation of %s", (line, messages) => {
  expect(read(line)).toMatchObject({ conversation: { messages } });
});

test("tools go with the conversation", () => {
  expect(read('{"prompt":"Hi","tools":[{"a":1}]}')).toMatchObject({ conversation: { tools: [{ a: 1 }] } });
});

test.each([
  '{"id":1}',
  "{}",
  '{"prompt":"Hi","messages":[]}',
  '{"prompt":["Hi"]}',
  '{"messages":"Hi"}',
  '{"prompt":"Hi","response":7}',
  '{"prompt":"Hi","tools":{}}',
])("%s goes on with an error in its field", (line) => {
  expect(codeOf(line)).toBe("ROW_INVALID");
  expect(JSON.parse(read(line).with({ error: {} }))).toEqual({ ...JSON.parse(line), found: { error: {} } });
});

test.each([
  ["nope", "LINE_INVALID"],
  ["[1]", "LINE_INVALID"],
  ["null", "LINE_INVALID"],
  ["\u00a0{}", "LINE_INVALID"],
  ['{"prompt":"Hi"} {}', "LINE_INVALID"],
  [`${"[".repeat(5000)}`, "LINE_INVALID"],
  ['{"prompt":"Hi","found":1}', "FIELD_TAKEN"],
])("%j goes on as a text beside its error", (line, code) => {
  expect(codeOf(line)).toBe(code);
  expect(JSON.parse(read(line).with({ error: {} }))).toEqual({ line, found: { error: {} } });
});

test("bytes that are no UTF-8 go on as far as they can be read", () => {
  const bytes = Buffer.from('{"prompt":"\xff"}', "latin1");
  expect(codeOf(bytes)).toBe("LINE_INVALID");
  expect(JSON.parse(read(bytes).with({}))).toEqual({ line: '{"prompt":"\ufffd"}', found: {} });
});

test("of a line that is too long its beginning goes on, with how long it was", () => {
  const row = parseRow({ bytes: Buffer.alloc(5000, "x"), length: 1e9 }, "found");
  expect(row).toMatchObject({ problem: { code: "LINE_TOO_LONG" } });
  expect(JSON.parse(row.with({}))).toEqual({ line: "x".repeat(1000), bytes: 1e9, found: {} });
});
