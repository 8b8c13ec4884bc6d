import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PolicyData } from "../../src/moderation/policy.js";
import { Reviewer } from "../../src/moderation/reviewer.js";
import { type Finding, ruleResponse } from "../../src/moderation/ruling.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { LABELS, policyOf, verdict } from "../gate/scripted.js";

const policies = fc.record({
  reading: fc.constantFrom("strict", "loose"),
  debounce: fc.integer({ min: 1, max: 3 }),
  categories: fc.constantFrom<PolicyData["categories"]>({}, { PII: "observe" }, { Violent: "ignore" }),
}) as fc.Arbitrary<PolicyData>;
const tokens = fc.array(
  fc.tuple(fc.constantFrom(...LABELS.responseRisk), fc.constantFrom(...LABELS.responseCategory)),
  { maxLength: 20 },
);

describe("a reviewer", () => {
  test("rules as the policy does on all verdicts at once, however they come and are revised", () => {
    const cuts = fc.array(fc.tuple(fc.nat(4), fc.nat(3), fc.boolean()), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(policies, tokens, cuts, (data, said, steps) => {
        const policy = policyOf(data);
        const last = said.map(([risk, category], i) => verdict(i, risk, "", category));
        const expected = ruleResponse(last, policy);
        const reviewer = new Reviewer(policy.response);
        const observed: Finding[] = [];
        let settled = 0;
        for (let i = 0; settled < last.length && !reviewer.violation; i++) {
          const [more, open, doubtful] = steps[i % steps.length];
          const from = settled;
          const to = Math.min(last.length, from + more + open + 1);
          settled = to === last.length ? to : Math.max(from, to - open);
          // What has not settled may say anything yet.
          const now = last
            .slice(from, to)
            .map((own) => (own.index < settled || !doubtful ? own : verdict(own.index, "Unsafe")));
          observed.push(...reviewer.review(now, settled).observed);
          const row = settled - reviewer.clear;
          expect(row).toBeGreaterThanOrEqual(0);
          if (!reviewer.violation) expect(row).toBeLessThan(policy.response.debounce);
        }
        expect(reviewer.violation).toEqual(expected.violation);
        expect(observed).toEqual(expected.observed);
        expect(reviewer.clear).toBe(expected.violation?.from ?? last.length - trailing(last, data));
      }),
    );
  });

  test("calls nothing that follows a flag settled, and asks about each token before it once", () => {
    const reviewer = new Reviewer(policyOf().response);
    const asked: number[] = [];
    const verdicts = ["Safe", "Unsafe", "Unsafe", "Safe"].map((risk, i) => verdict(i, risk));
    const { flag } = reviewer.review(verdicts, 4, ({ index }) => asked.push(index) > 0);
    expect(flag).toMatchObject({ from: 1, index: 2 });
    expect(asked).toEqual([0, 1, 2]);
    expect(reviewer.clear).toBe(1);
  });

  test("lets a row go on across tokens that nobody reads", () => {
    const reviewer = new Reviewer(policyOf().response);
    const verdicts = ["Unsafe", "Safe", "Unsafe"].map((risk, i) => verdict(i, risk));
    const { flag } = reviewer.review(verdicts, 3, ({ index }) => index !== 1);
    expect(flag).toMatchObject({ index: 2 });
    expect(reviewer.clear).toBe(0);
  });

  test("takes as likely clear what has not settled and counts for nothing, up to what does; nothing in an open row", () => {
    const of = (settled: number, ...risks: string[]) => {
      const reviewer = new Reviewer(policyOf().response);
      reviewer.review(
        risks.map((risk, i) => verdict(i, risk)),
        settled,
      );
      return reviewer.likelyClear.map(({ index }) => index);
    };
    expect(of(1, "Safe", "Safe", "Safe")).toEqual([1, 2]);
    expect(of(1, "Safe", "Safe", "Unsafe", "Safe")).toEqual([1]);
    expect(of(1, "Unsafe", "Safe")).toEqual([]);
  });
});

/** Tokens at the end that a row is open with. */
function trailing(verdicts: Verdict[], data: PolicyData): number {
  const { violation } = ruleResponse(verdicts, policyOf(data));
  let count = 0;
  while (!violation && count < verdicts.length) {
    const own = ruleResponse([verdicts[verdicts.length - 1 - count]], policyOf({ ...data, debounce: 1 }));
    if (!own.violation) break;
    count++;
  }
  return count;
}
