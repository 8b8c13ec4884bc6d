import { expect, test } from "vitest";
import { type Delay, delayOf, summarizeDelays } from "../../src/evaluation/delay.js";

test.each<[number | null, Delay]>([
  [null, "missed"],
  [0, "ahead"],
  [99, "ahead"],
  [100, "hit"],
  [110, "hit"],
  [111, "1-32"],
  [142, "1-32"],
  [143, "33-64"],
  [174, "33-64"],
  [175, "65-128"],
  [238, "65-128"],
  [239, "129-256"],
  [366, "129-256"],
  [367, ">256"],
])("annotated 100-110, flagged at %s: %s", (flaggedAt, delay) => {
  expect(delayOf(flaggedAt, [100, 110])).toBe(delay);
});

test("a span of one token is hit by that token alone", () => {
  expect([6, 7, 8].map((at) => delayOf(at, [7, 7]))).toEqual(["ahead", "hit", "1-32"]);
});

test("first 128 counts ahead, hit and up to 128 late", () => {
  const delays: Delay[] = [
    "ahead",
    "hit",
    "hit",
    "1-32",
    "33-64",
    "65-128",
    "129-256",
    ">256",
    "missed",
    "missed",
  ];
  expect(summarizeDelays(delays)).toEqual({
    rows: 10,
    exactHit: 0.2,
    first128: 0.6,
    bins: { ahead: 1, hit: 2, "1-32": 1, "33-64": 1, "65-128": 1, "129-256": 1, ">256": 1, missed: 2 },
  });
});

test("no annotated row, no summary", () => {
  expect(summarizeDelays([])).toBeNull();
});
