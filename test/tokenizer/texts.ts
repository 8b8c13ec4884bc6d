import fc from "fast-check";
import { MOST_MARKS } from "../../src/tokenizer/normalization/nfc-stream.js";

/** Strings that the stages of encoding trip over; a case draws from a few groups. */
const GROUPS: string[][] = [
  ["a", "b", "the", "x", "Ing", "e", "o", "A"],
  [" ", "  ", "   ", "        "],
  ["\n", "\r", "\r\n", "\n\n", "\t", "\u000b", "\u0085", "\u00a0", "\u2028", "\u3000"],
  ["'", "'s", "'S", "'t", "'re", "'R", "'v", "'ll", "'l", "'d", "'m", "'\u017f", "\u2019s"],
  ["0", "1", "42", "\u0663", "\u00bd", "\u2167", "\u{1d7d8}"],
  ["!", "?", ".", ",", "...", "-", "_", "=", "<", ">", "/", "|", "{", "}", '"', "()", ";", "\u037e"],
  ["\u4f60", "\u597d", "\u4e16\u754c", "\u3042", "\u304b", "\u3099", "\u30d5\u309a", "\u{2f800}", "\uf900"],
  ["\u1100", "\u1161", "\u11a8", "\uac00", "\uac01", "\u1112", "\u1175", "\u11c2"],
  [
    "\u0301",
    "\u0300",
    "\u0323",
    "\u0327",
    "\u0334",
    "\u0345",
    "\u0315",
    "\u031b",
    "\u0338",
    "\u05b0",
    "\u0307",
  ],
  [
    "e\u0301",
    "\u00e9",
    "\u1e69",
    "s\u0323\u0307",
    "s\u0307\u0323",
    "\u0344",
    "\u0958",
    "\u0915\u093c",
    "\u0f73",
  ],
  [
    "\u0f71",
    "\u0f72",
    "\u0f74",
    "\u09c7",
    "\u09be",
    "\u0b47",
    "\u0b3e",
    "\u0ddd",
    "\u1025\u102e",
    "\u0300\u0301",
  ],
  [
    "\u{1f469}\u200d\u{1f469}\u200d\u{1f467}",
    "\u{1f600}",
    "\u2764\ufe0f",
    "\u{1f1e9}\u{1f1ea}",
    "\u{1f44d}\u{1f3fd}",
  ],
  ["\ud83d", "\ude00", "\udc00", "\ud800", "\udbff\udfff"],
  [
    "<think>",
    "</think>",
    "<thi",
    "nk>",
    "</",
    "<tool_call>",
    "<|im_end|>",
    "<|im_start|>",
    "<|",
    "|>",
    "<|fim_",
  ],
  ["\u212b", "\u2126", "\u212a", "\u0340", "\u2000", "\u{1d15e}", "\ufb1d", "\u1f71", "\ufeff", "\u200b"],
  [
    "\u07fd",
    "\u08d3",
    "\u0eba",
    "\u1ac1",
    "\u{11935}",
    "\u{11930}",
    "\u{16d63}",
    "\u{16d67}",
    "\u{11938}",
    "a\u0301",
  ],
  [
    "\u0939\u093f",
    "\u0928\u094d",
    "\u0e33",
    "\u0e01\u0e34",
    "\u0631\u0651",
    "\u064e",
    "\u06cc",
    "\u0647\u0654",
  ],
];

const drawn: fc.Arbitrary<string> = fc
  .subarray(GROUPS, { minLength: 1, maxLength: 4 })
  .chain((groups) => {
    const part = fc.constantFrom(...groups.flat());
    const run = fc.tuple(part, fc.integer({ min: 2, max: 40 })).map(([one, times]) => one.repeat(times));
    return fc.array(fc.oneof({ weight: 9, arbitrary: part }, { weight: 1, arbitrary: run }), {
      maxLength: 30,
    });
  })
  .map((parts) => parts.join(""));

const letters = fc.string({
  unit: fc.constantFrom(..."etaoinshrdlucmfwypvbgkjqxzETAOIN"),
  minLength: 20,
  maxLength: 200,
});

const runs = fc
  .tuple(
    fc.constantFrom(" ", "\n", "\t", "a", "=", "-", "ab", " \n", "\u0301", "\u3000"),
    fc.integer({ min: 1, max: 400 }),
  )
  .map(([one, times]) => one.repeat(times));

/** Any but a surrogate. The library's "binary" is the same, and first takes a second for a table of them all. */
const character = fc
  .nat({ max: 0x10ffff - 0x800 })
  .map((code) => String.fromCodePoint(code < 0xd800 ? code : code + 0x800));

/** What composes with a character before it: marks, and letters such as Hangul's vowels. */
const COMPOSING = "[\\p{M}\\u1160-\\u11ff\\u{16d63}-\\u{16d6a}]";

/** A text without more marks in a row than may follow one character. */
export function fewMarks(text: string): string {
  return text.replace(new RegExp(`(${COMPOSING}{${MOST_MARKS}})${COMPOSING}+`, "gu"), "$1");
}

/** Any text, the difficult more often. */
export const texts: fc.Arbitrary<string> = fc
  .oneof(
    { weight: 30, arbitrary: drawn },
    { weight: 3, arbitrary: letters },
    { weight: 1, arbitrary: fc.array(runs, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("")) },
    { weight: 3, arbitrary: fc.string({ unit: character, maxLength: 60 }) },
    { weight: 3, arbitrary: fc.string({ unit: "grapheme", maxLength: 60 }) },
  )
  .map(fewMarks);

/** A text cut anywhere, inside surrogate pairs too, in some cases at every code unit. */
export const chunks: fc.Arbitrary<string[]> = fc
  .tuple(
    texts,
    fc.oneof(fc.constant([1]), fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 12 })),
  )
  .map(([text, sizes]) => {
    const cut: string[] = [];
    for (let i = 0, n = 0; i < text.length; n++) {
      const size = sizes.some((s) => s > 0) ? sizes[n % sizes.length] : 1;
      cut.push(text.slice(i, i + size));
      i += size;
    }
    return cut;
  });
