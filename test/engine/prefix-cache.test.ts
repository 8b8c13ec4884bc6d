import { describe, expect, test } from "vitest";
import { PrefixCache } from "../../src/engine/prefix-cache.js";

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const content = (ids: number[], key = "", prompt = ids.length) => ({ ids, prompt, logits: new Map(), key });

describe("warm slots", () => {
  test("the longest match is found, under its own key alone", () => {
    const warm = new PrefixCache(1000);
    warm.put(0, content(range(0, 30)));
    warm.put(1, content(range(0, 50)));
    warm.put(2, content(range(0, 90), "another tenant"));
    expect(warm.match({ ids: range(0, 80), key: "" })).toEqual({ slot: 1, length: 50 });
    expect(warm.match({ ids: range(0, 80), key: "another tenant" })).toEqual({ slot: 2, length: 80 });
    expect(warm.match({ ids: range(0, 80), key: "nobody" })).toBeNull();
  });

  test("what was published is found under all keys, and nothing behind it", () => {
    const warm = new PrefixCache(1000);
    warm.publish(range(0, 40));
    warm.put(0, content(range(0, 90), "another tenant"));
    expect(warm.match({ ids: range(0, 80), key: "" })).toEqual({ slot: 0, length: 40 });
    expect(warm.match({ ids: [...range(0, 30), ...range(500, 530)], key: "" })).toEqual({
      slot: 0,
      length: 30,
    });
    warm.put(1, content(range(0, 60)));
    expect(warm.match({ ids: range(0, 80), key: "" })).toEqual({ slot: 1, length: 60 });
    // What failed of it may have failed of what all share.
    warm.forget({ ids: range(0, 80), key: "" });
    expect([0, 1].map((slot) => warm.lengthAt(slot))).toEqual([0, 0]);
  });

  test("what a template begins every conversation with is no match", () => {
    const warm = new PrefixCache(1000);
    warm.put(0, content([...range(0, 10), ...range(500, 530)]));
    expect(warm.match({ ids: range(0, 80), key: "" })).toBeNull();
  });

  test("beyond the most tokens, what was used least recently is forgotten", () => {
    const warm = new PrefixCache(100);
    for (const slot of [0, 1, 2]) warm.put(slot, content(range(slot * 100, slot * 100 + 33)));
    warm.touch(0);
    warm.put(3, content(range(700, 730)));
    expect([0, 1, 2, 3].map((slot) => warm.lengthAt(slot))).toEqual([33, 0, 33, 30]);
    expect(warm.tokens).toBe(96);
  });

  test("what is larger than all that may be kept is not kept", () => {
    const warm = new PrefixCache(20);
    warm.put(0, content(range(0, 21)));
    expect(warm.tokens).toBe(0);
  });

  test("a slot that holds the conversation goes on with it; one that also holds another is copied", () => {
    const warm = new PrefixCache(1000);
    warm.put(0, content(range(0, 60)));
    const anySlot = () => true;
    expect(warm.own({ ids: range(0, 200), key: "" }, anySlot)).toBe(0);
    expect(warm.own({ ids: [...range(0, 20), ...range(500, 600)], key: "" }, anySlot)).toBeNull();
    expect(warm.own({ ids: range(0, 200), key: "" }, () => false)).toBeNull();
  });

  test("a response that follows, which templates show otherwise in later turns, is nothing to keep", () => {
    const warm = new PrefixCache(1000);
    warm.put(0, content(range(0, 600), "", 60));
    expect(warm.own({ ids: [...range(0, 55), ...range(700, 800)], key: "" }, () => true)).toBe(0);
  });

  test("a little of another conversation behind a long beginning costs less to read again than to keep", () => {
    const warm = new PrefixCache(10_000);
    warm.put(0, content(range(0, 4050)));
    expect(warm.own({ ids: [...range(0, 4000), 1], key: "" }, () => true)).toBe(0);
    expect(warm.own({ ids: [...range(0, 3900), 1], key: "" }, () => true)).toBeNull();
  });

  test("what begins like one that failed is forgotten, of its key alone", () => {
    const warm = new PrefixCache(1000);
    warm.put(0, content([...range(0, 40), ...range(100, 120)]));
    warm.put(1, content(range(0, 40), "another tenant"));
    warm.put(2, content(range(200, 240)));
    warm.forget({ ids: range(0, 80), key: "" });
    expect([0, 1, 2].map((slot) => warm.lengthAt(slot))).toEqual([0, 40, 40]);
    expect(warm.tokens).toBe(80);
  });

  test("a stranger gets the lowest cold slot, and the one used least recently where none is cold or memory is full", () => {
    const warm = new PrefixCache(60);
    warm.put(1, content(range(0, 40)));
    expect(warm.spare([0, 1, 2])).toBe(0);
    warm.put(0, content(range(100, 120)));
    expect(warm.spare([0, 1, 2])).toBe(1);
    warm.touch(1);
    expect(warm.spare([0, 1])).toBe(0);
    expect(warm.spare([1])).toBe(1);
  });
});
