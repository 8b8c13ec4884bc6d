import { expect, test } from "vitest";
import { judgePrompt, judgeResponse } from "../../src/moderation/verdict.js";

const labels = {
  promptRisk: ["Safe", "Unsafe", "Controversial"],
  promptCategory: ["Violent", "Jailbreak"],
  responseRisk: ["Controversial", "Safe"],
  responseCategory: ["PII", "Violent", "Unethical Acts"],
};

/** Two tokens' logits, as a step leaves them. */
const logits = {
  promptRisk: Float32Array.of(5, 0, 0, 0, Math.log(6), Math.log(3)),
  promptCategory: Float32Array.of(1, 0, 0, Math.log(3)),
  responseRisk: Float32Array.of(0, 10, 2, 2),
  responseCategory: Float32Array.of(0, 0, 9, 0, 4, 4),
};

test("labels and probabilities are those of the checkpoint's maps, in their order", () => {
  const { risk, riskProbability, category, categoryProbability, probabilities } = judgePrompt(
    logits,
    1,
    labels,
  );
  expect([risk, category]).toEqual(["Unsafe", "Jailbreak"]);
  expect(riskProbability).toBeCloseTo(0.6, 6);
  expect(categoryProbability).toBeCloseTo(0.75, 6);
  [0.1, 0.6, 0.3].forEach((expected, i) => {
    expect(probabilities.risk[i]).toBeCloseTo(expected, 6);
  });
  expect(probabilities.category).toHaveLength(2);
});

test("a safe token has no category, but keeps the probabilities", () => {
  const judgement = judgeResponse(logits, 0, labels);
  expect(judgement).toMatchObject({ risk: "Safe", category: null, categoryProbability: null });
  expect(judgement.probabilities.category.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 6);
});

test("the first of equal labels wins, as argmax does in the reference", () => {
  expect(judgeResponse(logits, 1, labels)).toMatchObject({ risk: "Controversial", category: "Violent" });
});

test("large logits do not overflow", () => {
  const large = { ...logits, promptRisk: Float32Array.of(3e38, -3e38, 0) };
  expect(judgePrompt(large, 0, labels).probabilities.risk).toEqual([1, 0, 0]);
});
