import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.js";
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
