import assert from "node:assert/strict";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { TextHoldBuffer } from "../../src/gate/hold-buffer.js";
import { IncrementalDecoder, IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import { normalize } from "../../src/tokenizer/normalization/normalize.js";
import { Tokenizer, wellFormed } from "../../src/tokenizer/tokenizer.js";
import { OFFICIAL_TOKENIZER } from "../support/model.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await Tokenizer.load(OFFICIAL_TOKENIZER);
});

const nasty = fc.constantFrom(
  ..."ab e\n\r<>'中é👍",
  "e\u0301",
  "\u0301",
  "\u0323",
  "\u0338",
  "x\u0301\u0323\u0301",
  "ᄀ",
  "ᅡ",
  "ᆨ",
  "가",
  "각",
  "\ud83d",
  "\udc4d",
  "\u0958",
  "\u212b",
  "ﬁ",
  "\u200d",
  "<think>",
  "</think>",
  "<|im_end|>",
  "नि",
  "ো",
  "ে",
  "া",
  "  ",
  "\ufffd",
  // Marks and joining characters of newer Unicode, which the reference's NFC leaves where they are.
  "\u{1e130}",
  "\u{16d63}",
  "\u{16d67}",
  "\u{113c2}",
);
const text = fc.array(nasty, { maxLength: 24 }).map((parts) => parts.join(""));

test("the newest tokens stay, however many are clear, and what may go does not end in white space", () => {
  const held = new TextHoldBuffer<never>();
  held.append({ kind: "text", text: "one two\n\n three" });
  for (const text of ["one", " two", "\n\n", " three"]) held.judge({ text });
  expect([0, 1, 2, 3, 4, 5].map((newest) => held.allBut(newest, 4))).toEqual([4, 2, 2, 1, 0, 0]);
  expect([0, 1, 2, 3].map((clear) => held.allBut(0, clear))).toEqual([0, 1, 2, 2]);
  held.release(2);
  expect(held.allBut(1, 4)).toBe(2);
});

describe("released text is the source's own", () => {
  test("for any text in any chunks, cut wherever tokens end", () => {
    fc.assert(
      fc.property(
        text,
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 8 }),
        (source, sizes) => {
          const held = new TextHoldBuffer<never>();
          const encoder = new IncrementalEncoder(tokenizer);
          const decoder = new IncrementalDecoder(tokenizer);
          const ids: number[] = [];
          let judged = 0;
          let released = "";
          const take = ({
            from,
            ids: fresh,
            provisional,
          }: {
            from: number;
            ids: number[];
            provisional: number;
          }) => {
            ids.length = from;
            ids.push(...fresh);
            for (; judged < ids.length - provisional; judged++)
              held.judge({ text: decoder.push(ids[judged]) });
            for (const part of held.release(judged)) if (part.kind === "text") released += part.text;
            assert(source.startsWith(released));
            // What is out stands for judged tokens and no more; marks after an added token do not join it.
            const form = tokenizer.decode(ids.slice(0, judged));
            assert(form.startsWith(normalize(wellFormed(released))) || />\p{M}/u.test(released));
          };
          for (let at = 0, i = 0; at < source.length; i++) {
            const chunk = source.slice(at, at + sizes[i % sizes.length]);
            at += chunk.length;
            held.append({ kind: "text", text: chunk });
            take(encoder.push(chunk));
          }
          take(encoder.end());
          expect(held.complete).toBe(true);
          expect(released).toBe(source);
        },
      ),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 2000) },
    );
  });

  test("a long run of marks out of order costs no more than its length", () => {
    const source = `x${"\u0301\u0323".repeat(20_000)}.`;
    const held = new TextHoldBuffer<never>();
    held.append({ kind: "text", text: source });
    for (const character of source.normalize("NFC")) held.judge({ text: character });
    expect(held.complete).toBe(true);
  });
});

describe("stretches", () => {
  test("a span holds nothing of what is silent", () => {
    const spanOf = (released: string, ...judged: string[]) => {
      const held = new TextHoldBuffer<string>();
      held.append({ kind: "text", text: "hm" });
      held.append({ kind: "text", text: "</think>", silent: true });
      held.append({ kind: "text", text: "yes" });
      held.judge({ text: released });
      held.release(1);
      for (const text of judged) held.judge({ text });
      return held.span();
    };
    expect(spanOf("h", "m", "</think>", "ye")).toEqual({ start: 1, end: 4, text: "mye" });
    expect(spanOf("hm", "</think>", "y")).toEqual({ start: 2, end: 3, text: "y" });
  });

  test("keep their tags and their place among items; silent ones are judged and stay", () => {
    const held = new TextHoldBuffer<string>();
    held.append({ kind: "item", item: "first" });
    held.append({ kind: "text", text: "<think>", silent: true });
    held.append({ kind: "text", text: "hm", tag: "reasoning" });
    held.append({ kind: "text", text: "m", tag: "reasoning" });
    held.append({ kind: "item", item: "second" });
    held.append({ kind: "text", text: "yes", tag: "content" });
    const isRead = (token: string) => held.judge({ text: token });
    expect(held.release(0)).toEqual([{ kind: "item", item: "first" }]);
    expect(["<think>", "hm"].map(isRead)).toEqual([false, true]);
    expect(held.release(2)).toEqual([{ kind: "text", text: "hm", tag: "reasoning" }]);
    expect(["m", "ye"].map(isRead)).toEqual([true, true]);
    expect(held.span()).toEqual({ start: 2, end: 5, text: "mye" });
    expect(held.release(4)).toEqual([
      { kind: "text", text: "m", tag: "reasoning" },
      { kind: "item", item: "second" },
      { kind: "text", text: "ye", tag: "content" },
    ]);
    expect(held.complete).toBe(false);
    expect(held.releaseAll()).toEqual([{ kind: "text", text: "s", tag: "content" }]);
  });

  test("a token belongs to the reader where any of it does, and one without text where the next character does", () => {
    const held = new TextHoldBuffer<string>();
    held.append({ kind: "text", text: "<think>", silent: true });
    held.append({ kind: "text", text: "hm" });
    const isRead = (token: string) => held.judge({ text: token });
    expect(["<thin", "", "k>h", "", "m"].map(isRead)).toEqual([false, false, true, true, true]);
  });
});
