import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BYTE_LETTERS } from "../../src/tokenizer/bpe/byte-alphabet.js";
import { QWEN_SPLIT } from "../../src/tokenizer/bpe/pre-tokenizer.js";
import { IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { qwen3 } from "./qwen3.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await qwen3();
});

describe("ids of the reference implementation", () => {
  let cases: [text: string, content: number[], templated: number[] | null][];
  beforeAll(async () => {
    const file = new URL("../golden/tokenizer/encodings.json", import.meta.url);
    cases = JSON.parse(await readFile(file, "utf8")).cases;
  });

  test("content and templated text", () => {
    expect(cases.length).toBeGreaterThan(600);
    for (const [text, content, templated] of cases) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(content);
      expect(tokenizer.encodeTemplated(text), JSON.stringify(text)).toEqual(templated ?? content);
    }
  });

  test("text that comes one code unit at a time", () => {
    for (const [text, content] of cases) {
      const encoder = new IncrementalEncoder(tokenizer);
      const ids: number[] = [];
      const take = (revision: { from: number; ids: number[] }) => {
        ids.length = revision.from;
        ids.push(...revision.ids);
      };
      for (let i = 0; i < text.length; i++) take(encoder.push(text[i]));
      take(encoder.end());
      expect(ids, JSON.stringify(text)).toEqual(content);
    }
  });

  test("decoding gives the normalized text back", () => {
    for (const [text, content] of cases) {
      if (content.length > 0) expect(tokenizer.encode(tokenizer.decode(content))).toEqual(content);
      if (text === text.normalize("NFC") && !text.includes("\ufffd"))
        expect(tokenizer.decode(content)).toBe(text);
    }
  });
});

test("ids and bytes", () => {
  expect(tokenizer.vocabSize).toBe(151669);
  expect(tokenizer.tokenId("<|im_end|>")).toBe(151645);
  expect(tokenizer.tokenId("<think>")).toBe(151667);
  expect(tokenizer.tokenId("<nothing>")).toBeUndefined();
  expect(Buffer.from(tokenizer.tokenBytes(151645)).toString()).toBe("<|im_end|>");
  expect(Buffer.from(tokenizer.tokenBytes(tokenizer.encode(" the")[0])).toString()).toBe(" the");
  const bytes = new Set(Array.from({ length: 256 }, (_, id) => tokenizer.tokenBytes(id)[0]));
  expect(bytes.size).toBe(256);
});

test.each([-1, 151669, 1.5, Number.NaN, 2 ** 40])("%d is no token", (id) => {
  expect(() => tokenizer.tokenBytes(id)).toThrow(
    expect.objectContaining({ name: "InputError", code: "TOKEN_INVALID" }),
  );
  expect(() => tokenizer.decode([0, id])).toThrow(expect.objectContaining({ code: "TOKEN_INVALID" }));
});

test("a lone surrogate is U+FFFD, a byte order mark stays", () => {
  expect(tokenizer.encode("a\ud800b")).toEqual(tokenizer.encode("a\ufffdb"));
  expect(tokenizer.decode(tokenizer.encode("\ufeffa"))).toBe("\ufeffa");
  expect(tokenizer.decode([])).toBe("");
  expect(tokenizer.encode("")).toEqual([]);
});

describe("files", () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "tokenizer-"));
  });
  afterAll(() => rm(dir, { recursive: true }));

  const vocab = Object.fromEntries([...BYTE_LETTERS, "ab", "abc"].map((token, id) => [token, id]));
  const token = { id: 258, content: "<end>", special: true, normalized: false, lstrip: false, rstrip: false };
  const split = { type: "Split", pattern: { Regex: QWEN_SPLIT }, behavior: "Isolated", invert: false };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
  const small = {
    added_tokens: [token],
    normalizer: { type: "NFC" },
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, byteLevel] },
    model: {
      type: "BPE",
      vocab,
      merges: [
        ["a", "b"],
        ["ab", "c"],
      ],
    } as Record<string, unknown>,
  };
  const load = async (content: unknown) => {
    await writeFile(
      join(dir, "tokenizer.json"),
      typeof content === "string" ? content : JSON.stringify(content),
    );
    return Tokenizer.load(dir);
  };

  test("a small one, its merges written in either way", async () => {
    for (const merges of [
      [
        ["a", "b"],
        ["ab", "c"],
      ],
      ["a b", "ab c"],
    ]) {
      const loaded = await load({ ...small, model: { ...small.model, merges } });
      expect(loaded.vocabSize).toBe(259);
      expect(loaded.encode("abcab")).toEqual([257, 256]);
      expect(loaded.encodeTemplated("ab<end>")).toEqual([256, 258]);
    }
  });

  test("none", async () => {
    await expect(Tokenizer.load(join(dir, "nowhere"))).rejects.toMatchObject({
      name: "CheckpointError",
      code: "TOKENIZER_MISSING",
    });
  });

  test.each<[string, unknown, string]>([
    ["cut off", JSON.stringify(small).slice(0, 500), "TOKENIZER_INVALID"],
    ["null", "null", "TOKENIZER_UNSUPPORTED"],
    ["another model", { ...small, model: { ...small.model, type: "Unigram" } }, "TOKENIZER_UNSUPPORTED"],
    ["merges skipped", { ...small, model: { ...small.model, ignore_merges: true } }, "TOKENIZER_UNSUPPORTED"],
    ["no normalizer", { ...small, normalizer: null }, "TOKENIZER_UNSUPPORTED"],
    [
      "another split",
      { ...small, pre_tokenizer: { pretokenizers: [{ ...split, pattern: { Regex: "x" } }, byteLevel] } },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "a space put before text",
      { ...small, pre_tokenizer: { pretokenizers: [split, { ...byteLevel, add_prefix_space: true }] } },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "a token that strips",
      { ...small, added_tokens: [{ ...token, lstrip: true }] },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "a token without text",
      { ...small, added_tokens: [{ ...token, content: "" }] },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "no byte tokens",
      { ...small, model: { ...small.model, vocab: { a: 0, b: 1, ab: 2 } } },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "an id that is none",
      { ...small, model: { ...small.model, vocab: { ...vocab, ab: -1 } } },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "two ways to build a token",
      {
        ...small,
        model: { ...small.model, vocab: { ...vocab, bc: 258 }, merges: ["a b", "b c", "ab c", "a bc"] },
        added_tokens: [],
      },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "merges in the wrong order",
      { ...small, model: { ...small.model, merges: ["ab c", "a b"] } },
      "TOKENIZER_UNSUPPORTED",
    ],
    [
      "a merge of nothing",
      { ...small, model: { ...small.model, merges: ["a b", "b b"] } },
      "TOKENIZER_UNSUPPORTED",
    ],
    ["a merge that is none", { ...small, model: { ...small.model, merges: [1] } }, "TOKENIZER_UNSUPPORTED"],
  ])("%s", async (_, content, code) => {
    await expect(load(content)).rejects.toMatchObject({ name: "CheckpointError", code });
  });
});
