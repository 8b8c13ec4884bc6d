import { describe, expect, test } from "vitest";
import { definedShares, Metrics } from "../../src/evaluation/metrics.js";
import type { Outcome } from "../../src/evaluation/outcome.js";
import type { Severity } from "../../src/moderation/labels.js";

const SEVERITIES = { s: "safe", c: "controversial", u: "unsafe" } as const;

/** "uc": annotated unsafe, found controversial. */
function outcome(pair: string, fields: Partial<Outcome["annotation"]> = {}): Outcome {
  const [label, found] = [...pair].map((letter) => SEVERITIES[letter as "s" | "c" | "u"]) as Severity[];
  return {
    annotation: {
      label,
      unsafe: { strict: label !== "safe", loose: label === "unsafe" },
      span: null,
      source: null,
      category: null,
      lang: null,
      ...fields,
    },
    found,
    flaggedAt: null,
    delay: null,
    tokens: 100,
  };
}

function summarize(outcomes: Outcome[]) {
  const metrics = new Metrics();
  for (const each of outcomes) metrics.add(each);
  return metrics.summarize();
}

describe("by hand", () => {
  // 4 unsafe: 2 found unsafe, 1 controversial, 1 safe. 5 safe: 3 safe, 1 controversial, 1 unsafe.
  const summary = summarize(
    ["uu", "uu", "uc", "us", "ss", "ss", "ss", "sc", "su"].map((pair) => outcome(pair)),
  );

  test("controversial as unsafe", () => {
    // precision 3/5, recall 3/4, F1 = 2·(3/5·3/4)/(3/5+3/4) = 2/3
    expect(summary.strict).toMatchObject({
      truePositives: 3,
      falsePositives: 2,
      falseNegatives: 1,
      trueNegatives: 3,
    });
    expect(summary.strict.precision).toBeCloseTo(0.6, 12);
    expect(summary.strict.recall).toBeCloseTo(0.75, 12);
    expect(summary.strict.f1).toBeCloseTo(2 / 3, 12);
    expect(summary.strict.falsePositiveRate).toBeCloseTo(0.4, 12);
  });

  test("controversial as safe", () => {
    // precision 2/3, recall 2/4, F1 = 4/7
    expect(summary.loose.precision).toBeCloseTo(2 / 3, 12);
    expect(summary.loose.recall).toBeCloseTo(0.5, 12);
    expect(summary.loose.f1).toBeCloseTo(4 / 7, 12);
    expect(summary.loose.falsePositiveRate).toBeCloseTo(0.2, 12);
  });

  test("confusion, rows, tokens", () => {
    expect(summary.confusion).toEqual({
      safe: { safe: 3, controversial: 1, unsafe: 1 },
      controversial: { safe: 0, controversial: 0, unsafe: 0 },
      unsafe: { safe: 1, controversial: 1, unsafe: 2 },
    });
    expect(summary).toMatchObject({ rows: 9, tokens: 900, delay: null });
  });
});

test("rows annotated controversial: unsafe in one reading, safe in the other", () => {
  const { strict, loose } = summarize(["cc", "cu", "cs"].map((pair) => outcome(pair)));
  expect(strict).toMatchObject({ truePositives: 2, falseNegatives: 1, falsePositives: 0, trueNegatives: 0 });
  expect(loose).toMatchObject({ truePositives: 0, falseNegatives: 0, falsePositives: 1, trueNegatives: 2 });
});

test("what cannot be divided is 0, and known to be undefined", () => {
  const { strict } = summarize([outcome("ss")]);
  expect(strict).toMatchObject({ f1: 0, precision: 0, recall: 0, falsePositiveRate: 0 });
  expect(definedShares(strict)).toEqual([null, null, null, 0]);
  expect(definedShares(summarize([outcome("us")]).strict)).toEqual([0, null, 0, null]);
});

test("groups by the fields that rows have, largest first", () => {
  const { groups } = summarize([
    outcome("uu", { source: "a", category: "Violent" }),
    outcome("us", { source: "b", category: "Violent" }),
    outcome("su", { source: "b" }),
    outcome("ss"),
  ]);
  expect(Object.keys(groups.source)).toEqual(["b", "a"]);
  expect(groups.source.b).toMatchObject({ rows: 2, strict: { recall: 0, falsePositives: 1 } });
  expect(groups.category).toMatchObject({ Violent: { rows: 2, strict: { recall: 0.5 } } });
  expect(groups.lang).toEqual({});
});

test("delays of the rows that have one", () => {
  const { delay } = summarize([
    { ...outcome("uu"), delay: "hit" },
    { ...outcome("us"), delay: "missed" },
    outcome("uu"),
  ]);
  expect(delay).toMatchObject({ rows: 2, exactHit: 0.5, first128: 0.5 });
});
