import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AhoCorasick } from "../../src/tokenizer/aho-corasick.js";
import { Merges } from "../../src/tokenizer/bpe/merges.js";
import { PreToken } from "../../src/tokenizer/bpe/pre-token.js";
import { IncrementalDecoder, IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import { MOST_MARKS } from "../../src/tokenizer/normalization/nfc-stream.js";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { qwen3 } from "./qwen3.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await qwen3();
});

test("a word that grows is revised from its first id that changes", () => {
  const encoder = new IncrementalEncoder(tokenizer);
  const [hel] = tokenizer.encode(" hel");
  const [hello] = tokenizer.encode(" hello");
  expect(encoder.push(" hel")).toEqual({ from: 0, ids: [hel], provisional: 1 });
  expect(encoder.push("lo")).toEqual({ from: 0, ids: [hello], provisional: 1 });
  expect(encoder.push(",")).toEqual({ from: 1, ids: tokenizer.encode(","), provisional: 2 });
  // A mark could still join the comma. After the next word's first letter both stand.
  expect(encoder.push(" w").provisional).toBe(1);
  expect(encoder.push("")).toEqual({ from: 3, ids: [], provisional: 1 });
  expect(encoder.end()).toEqual({ from: 3, ids: [], provisional: 0 });
});

test("half a surrogate pair waits for the other half", () => {
  const encoder = new IncrementalEncoder(tokenizer);
  expect(encoder.push("\ud83d")).toEqual({ from: 0, ids: [], provisional: 0 });
  expect(encoder.push("\ude00").ids).toEqual(tokenizer.encode("😀"));
  encoder.push("\ud83d");
  const { from, ids } = encoder.end();
  expect(ids.length).toBeGreaterThan(0);
  expect(from + ids.length).toBe(tokenizer.encode("😀\ufffd").length);
});

test("<think> in pieces becomes one token, a control token in pieces stays text", () => {
  const encoder = new IncrementalEncoder(tokenizer);
  encoder.push("a<thi");
  expect(encoder.push("nk>")).toEqual({ from: 1, ids: [tokenizer.tokenId("<think>")], provisional: 0 });
  encoder.push("<|im_");
  encoder.push("end|>");
  const { from, ids } = encoder.end();
  expect(from + ids.length).toBe(2 + tokenizer.encode("<|im_end|>").length);
  expect(tokenizer.encode("<|im_end|>").length).toBeGreaterThan(1);
});

test("an encoder that has ended takes no more", () => {
  const encoder = new IncrementalEncoder(tokenizer);
  encoder.end();
  expect(() => encoder.push("a")).toThrow(expect.objectContaining({ code: "ENCODER_ENDED" }));
  expect(() => encoder.end()).toThrow(expect.objectContaining({ code: "ENCODER_ENDED" }));
});

test("an unfinished character decodes to nothing until it cannot be finished", () => {
  const decoder = new IncrementalDecoder(tokenizer);
  const bytes = [...Buffer.from("é")].map((byte) =>
    Array.from({ length: 256 }, (_, id) => id).find((id) => tokenizer.tokenBytes(id)[0] === byte),
  ) as number[];
  expect(decoder.push(bytes[0])).toBe("");
  expect(decoder.push(bytes[1])).toBe("é");
  decoder.push(bytes[0]);
  expect(decoder.end()).toBe("\ufffd");
});

describe("what a push costs", () => {
  const CHUNK = 4;
  const LENGTH = 24_000;
  const LONGEST_TOKEN = 128;
  const times = (text: string) => text.repeat(Math.ceil(LENGTH / text.length)).slice(0, LENGTH);
  const drawn = (alphabet: string) => {
    const letters = [...alphabet];
    let seed = 1;
    return Array.from({ length: LENGTH }, () => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return letters[(seed >>> 8) % letters.length];
    }).join("");
  };

  let appended = 0;
  let looked = 0;
  const { append } = PreToken.prototype;
  const { lengthOf } = Merges.prototype;
  const { suffixLink } = AhoCorasick.prototype;
  // Counted by hand: spies keep every call.
  beforeEach(() => {
    PreToken.prototype.append = function (byte) {
      appended++;
      append.call(this, byte);
    };
    AhoCorasick.prototype.suffixLink = function (node) {
      looked++;
      return suffixLink.call(this, node);
    };
    Merges.prototype.lengthOf = function (token) {
      looked++;
      return lengthOf.call(this, token);
    };
  });
  afterEach(() => {
    PreToken.prototype.append = append;
    Merges.prototype.lengthOf = lengthOf;
    AhoCorasick.prototype.suffixLink = suffixLink;
  });

  test.each([
    ["prose", times("The quick brown fox, who didn't care, jumped over 12 lazy dogs.\r\n\r\nIt's fine.\n")],
    ["spaces", times(" ")],
    ["newlines", times("\n")],
    ["CRLF", times("\r\n")],
    ["a newline and spaces", `\n${times(" ")}`],
    ["spaces and newlines in turns", times(" \n")],
    ["one letter", times("a")],
    ["two letters", times("ab")],
    ["signs", times("=")],
    ["digits", times("7")],
    ["letters without a break", drawn("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")],
    [
      "Chinese without a break",
      drawn("的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学"),
    ],
    ["Thai", drawn("กขคงจชซญฎดตถทนบปผพฟมยรลวสหอฮะาิีึืุูเแโใไ่้๊๋")],
    ["one mark", `a${"\u0301".repeat(MOST_MARKS)}`],
    ["vowel jamo", times("\u1161")],
    ["signs NFC replaces", times("\u2126")],
    ["emoji", times("👩‍")],
    ["the beginning of a token", times("<")],
    ["more of the beginning of a token", times("<think")],
  ])("does not grow with the text: %s", (_, text) => {
    const encoder = new IncrementalEncoder(tokenizer);
    const most = { appended: 0, looked: 0 };
    for (let i = 0; i < text.length; i += CHUNK) {
      appended = 0;
      looked = 0;
      encoder.push(text.slice(i, i + CHUNK));
      most.appended = Math.max(most.appended, appended);
      most.looked = Math.max(most.looked, looked);
    }
    // A chunk's bytes, up to 3 a code unit; again those of the open end; white space in two ways.
    expect(most.appended).toBeLessThanOrEqual(CHUNK * 3 * 3);
    expect(most.looked).toBeLessThanOrEqual(CHUNK * 3 * 3 * LONGEST_TOKEN);
    const { from, ids } = encoder.end();
    expect(from + ids.length).toBeGreaterThan(0);
  });

  test("marks of one class after marks of another are sorted once", () => {
    const encoder = new IncrementalEncoder(tokenizer);
    const text = `a${"\u0323".repeat(MOST_MARKS / 2)}${"\u0301".repeat(MOST_MARKS / 2)}`;
    appended = 0;
    for (let i = 0; i < text.length; i += CHUNK) encoder.push(text.slice(i, i + CHUNK));
    encoder.end();
    // 2 bytes a mark: once as they come, the first half again where the second begins, all when the run is over.
    expect(appended).toBeLessThanOrEqual(text.length * 2 * 3);
  });

  test("a word without end is remembered no further back than it can still change", () => {
    const sizes: number[] = [];
    const native = globalThis.Int32Array;
    class Counted extends native {
      static get [Symbol.species]() {
        return native;
      }
      constructor(size: number) {
        super(size);
        sizes.push(size);
      }
    }
    const encoder = new IncrementalEncoder(tokenizer);
    globalThis.Int32Array = Counted as unknown as Int32ArrayConstructor;
    try {
      for (let i = 0; i < 100; i++) encoder.push("abcdefghij".repeat(100));
    } finally {
      globalThis.Int32Array = native;
    }
    expect(sizes.length).toBeGreaterThan(0);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(4096);
  });
});
