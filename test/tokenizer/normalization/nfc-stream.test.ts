import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { IncrementalEncoder } from "../../../src/tokenizer/incremental.js";
import { MOST_MARKS, NfcStream } from "../../../src/tokenizer/normalization/nfc-stream.js";
import { isInert, normalize } from "../../../src/tokenizer/normalization/normalize.js";
import type { Tokenizer } from "../../../src/tokenizer/tokenizer.js";
import { qwen3 } from "../qwen3.js";
import { fewMarks, texts } from "../texts.js";

const numRuns = Number(process.env.PROPERTY_RUNS ?? 300);
const timeout = Math.max(240_000, numRuns * 200);

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await qwen3();
});

const characters = (): string[] =>
  Array.from({ length: 0x110000 }, (_, code) => code)
    .filter((code) => code < 0xd800 || code > 0xdfff)
    .map((code) => String.fromCodePoint(code));

/** Runs of marks of many classes, in any order, up to the bound. */
const marks = fc.array(
  fc.constantFrom(..."\u0301\u0323\u0345\u0334\u0327\u0315\u031b\u0338\u05b0\u0344\u3099\u0f71\u0f72\u0653"),
  { maxLength: MOST_MARKS, size: "max" },
);
const clusters = fc
  .array(fc.tuple(fc.constantFrom("a", "\u1112", "か", "\u0ddd", "Å", "\u07fd", ""), marks), { maxLength: 4 })
  .map((parts) => parts.map(([base, run]) => base + run.join("")).join("x"));

function compose(text: string, size: number): string {
  const composition = new NfcStream();
  let closed = "";
  for (let i = 0; i < text.length; i += size) {
    closed += composition.push(text.slice(i, i + size));
    expect(closed + composition.open).toBe(normalize(text.slice(0, i + size)));
  }
  return closed + composition.close();
}

test(
  "NFC of text as it comes is NFC of all text so far, also of long runs of marks",
  () => {
    const whole = fc.oneof(texts, clusters).map((text) => fewMarks(text.replace(/\p{Surrogate}/gu, "")));
    fc.assert(
      fc.property(whole, fc.integer({ min: 1, max: 64 }), (text, size) => {
        // Not between the halves of a pair.
        const even = fewMarks(text.replace(/[\u{10000}-\u{10ffff}]/gu, ""));
        expect(compose(even, size)).toBe(normalize(even));
        expect(compose(text, text.length || 1)).toBe(normalize(text));
      }),
      { numRuns },
    );
  },
  timeout,
);

test("only marks, the vowels and final consonants of Hangul, and what the reference leaves alone join what stands before", () => {
  const joining = characters().flatMap((character) => {
    const [first, ...others] = character.normalize("NFD");
    return first === character ? [] : others;
  });
  const known = (character: string) => /[\p{M}\u1160-\u11ff]/u.test(character) || isInert(character);
  expect([...new Set(joining)].filter((character) => !known(character))).toEqual([]);
});

test.each([
  ["one class", "\u0301"],
  ["classes in turns", "\u0301\u0323\u0345\u0334"],
])("more marks than the bound behind one character are refused: %s", (_, unit) => {
  const run = (length: number) => `a${unit.repeat(length / unit.length)}`;
  const refused = expect.objectContaining({ name: "InputError", code: "MARKS_TOO_MANY" });
  expect(tokenizer.decode(tokenizer.encode(`${run(MOST_MARKS)}a`))).toBe(
    `${run(MOST_MARKS)}a`.normalize("NFC"),
  );
  expect(() => tokenizer.encode(`${run(MOST_MARKS)}\u0301`)).toThrow(refused);

  const encoder = new IncrementalEncoder(tokenizer);
  for (const character of run(MOST_MARKS)) encoder.push(character);
  expect(() => encoder.push("\u0323")).toThrow(refused);
});

test("a run of marks is brought into order once for each push, not once for each mark", () => {
  const composition = new NfcStream();
  const { normalize: native } = String.prototype;
  let read = 0;
  String.prototype.normalize = function (form) {
    read += this.length;
    return native.call(this, form);
  };
  try {
    for (let i = 0; i < 8; i++) composition.push("\u0301\u0323\u0345\u0334".repeat(8));
  } finally {
    String.prototype.normalize = native;
  }
  // Each push reads the run so far.
  expect(read).toBeLessThanOrEqual((8 * (8 + 1) * 32) / 2);
});

test("marks that need no order between them are no cluster without end: vowel signs, jamo", () => {
  for (const unit of ["\u093e", "\u1161", "\u0e34", "\u09be", "\u1ac1"]) {
    const text = unit.repeat(5 * MOST_MARKS);
    expect(compose(text, 1000)).toBe(normalize(text));
  }
});
