import { expect, test } from "vitest";
import { outcomeOf } from "../../src/evaluation/outcome.js";
import type { Judgements } from "../../src/evaluation/prediction.js";
import type { Annotation, Span } from "../../src/evaluation/row.js";

/** The released map: 0 safe, 1 unsafe, 2 controversial. */
const LABELS = ["Safe", "Unsafe", "Controversial"];

function annotation(label: Annotation["label"], span: Span | null = null): Annotation {
  const unsafe = { strict: label !== "safe", loose: label === "unsafe" };
  return { label, unsafe, span, source: null, category: null, lang: null };
}

/** Levels as digits, from position 10 on. */
function judgements(levels: string): Judgements {
  return {
    pred_risk_levels: [...levels].map(Number),
    pred_categories: [],
    pred_risk_prob: [],
    input_ids: new Array(10 + levels.length).fill(0),
    split_idx_eval: 10,
  };
}

test.each([
  ["nothing", "0000", "safe", null],
  ["one unsafe token does not count", "0100", "safe", null],
  ["every second token does not count", "0101010", "safe", null],
  ["the second of a pair counts", "00110", "unsafe", 13],
  ["a pair at the very start", "1100", "unsafe", 11],
  ["a pair at the very end", "0011", "unsafe", 13],
  ["the first of several pairs", "0110110", "unsafe", 12],
  ["a run counts from its second token", "0111111", "unsafe", 12],
  ["controversial alone", "0220", "controversial", 12],
  ["unsafe later goes before controversial", "0220011", "unsafe", 16],
  ["unsafe first, controversial later", "0110022", "unsafe", 12],
  ["controversial then unsafe is no pair", "0210", "safe", null],
  ["a pair of each in one run", "02211", "unsafe", 14],
  ["one unsafe inside controversial", "0212200", "controversial", 14],
  ["a single token is no pair", "1", "safe", null],
])("responses: %s (%s)", (_, levels, found, flaggedAt) => {
  expect(outcomeOf(annotation("unsafe"), judgements(levels), LABELS, "response")).toMatchObject({
    found,
    flaggedAt,
  });
});

test("ids mean what the checkpoint's map says", () => {
  const permuted = ["Controversial", "Safe", "Unsafe"];
  const { found, flaggedAt } = outcomeOf(annotation("safe"), judgements("10012"), permuted, "response");
  expect({ found, flaggedAt }).toEqual({ found: "controversial", flaggedAt: 12 });
});

test.each([
  ["0", "safe", null],
  ["1", "unsafe", 10],
  ["2", "controversial", 10],
])("a prompt is what its one label says: %s", (levels, found, flaggedAt) => {
  expect(outcomeOf(annotation("safe"), judgements(levels), LABELS, "prompt")).toMatchObject({
    found,
    flaggedAt,
    delay: null,
  });
});

test.each<[string, Span, string]>([
  ["00110", [12, 13], "hit"],
  ["00110", [13, 14], "hit"],
  ["00110", [14, 14], "ahead"],
  ["00110", [10, 12], "1-32"],
  ["00000", [10, 12], "missed"],
  ["02200", [12, 12], "hit"],
  // What counts is the unsafe pair after it, though controversial came inside the range.
  ["02200011", [11, 12], "1-32"],
])("delay of %s with %s annotated: %s", (levels, span, delay) => {
  expect(outcomeOf(annotation("unsafe", span), judgements(levels), LABELS, "response").delay).toBe(delay);
});

test("only unsafe rows have a delay", () => {
  expect(
    outcomeOf(annotation("controversial", [10, 12]), judgements("0110"), LABELS, "response").delay,
  ).toBeNull();
  expect(outcomeOf(annotation("unsafe"), judgements("0110"), LABELS, "response").delay).toBeNull();
});
