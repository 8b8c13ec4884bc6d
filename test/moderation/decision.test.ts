import { describe, expect, test } from "vitest";
import { decide } from "../../src/moderation/decision.js";
import { severityOf } from "../../src/moderation/labels.js";

const NAMES: Record<string, string> = { S: "Safe", C: "Controversial", U: "Unsafe" };

/** "SUU" → three judged tokens; a flagged token's category names its place. */
const judged = (risks: string) =>
  [...risks].map((letter, i) => ({ risk: NAMES[letter], category: letter === "S" ? null : `at ${i}` }));

describe("a response counts as flagged from the second of two equal labels in a row", () => {
  test.each([
    // tokens      risk             at    strict  loose
    ["", "Safe", null, null, null],
    ["S", "Safe", null, null, null],
    ["U", "Safe", null, null, null],
    ["SSSS", "Safe", null, null, null],
    ["SUSUS", "Safe", null, null, null],
    ["UU", "Unsafe", 1, 1, 1],
    ["SUU", "Unsafe", 2, 2, 2],
    ["SUUS", "Unsafe", 2, 2, 2],
    ["CC", "Controversial", 1, 1, null],
    ["SCCSS", "Controversial", 2, 2, null],
    ["SUCUC", "Safe", null, null, null],
    ["CUU", "Unsafe", 2, 2, 2],
    ["CCSUU", "Unsafe", 4, 1, 4],
    ["UUCC", "Unsafe", 1, 1, 1],
    ["SCCCUSUU", "Unsafe", 7, 2, 7],
  ])("%s → %s", (risks, risk, flaggedAt, strict, loose) => {
    const decision = decide(judged(risks), "Safe");
    expect(decision).toEqual({
      risk,
      category: flaggedAt === null ? null : `at ${flaggedAt}`,
      flaggedAt,
      strict: { flagged: strict !== null, flaggedAt: strict },
      loose: { flagged: loose !== null, flaggedAt: loose },
      tokens: risks.length,
    });
  });
});

test("only a label named safe is safe; an unknown name is never taken lightly", () => {
  expect(["Safe", "SAFE", "Controversial", "Unsafe", "Dangerous", "safe-ish"].map(severityOf)).toEqual([
    "safe",
    "safe",
    "controversial",
    "unsafe",
    "unsafe",
    "unsafe",
  ]);
});
