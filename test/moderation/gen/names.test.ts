import { describe, expect, test } from "vitest";
import { type AnswerReader, likeliest, logProbabilities } from "../../../src/moderation/gen/answer-reader.js";
import { scoreNames } from "../../../src/moderation/gen/names.js";

/** A model of six tokens: the logits after a beginning, by its ids; where none are given, all are alike. */
function scripted(table: Record<string, number[]>): { reader: AnswerReader; asked: string[] } {
  const asked: string[] = [];
  const after = async <T>(answer: readonly number[], take: (logits: Float32Array) => T): Promise<T> => {
    asked.push(answer.join(" "));
    return take(Float32Array.from(table[answer.join(" ")] ?? [0, 0, 0, 0, 0, 0]));
  };
  return { reader: { after } as AnswerReader, asked };
}

const names = ["a", "b", "c"];

describe("the probabilities of names", () => {
  test("whole names count, not their first tokens", async () => {
    const { reader } = scripted({
      "9": [0, Math.log(6), Math.log(4), 0, 0, 0],
      "9 1": [0, 0, 0, Math.log(5), Math.log(5), 0],
    });
    // After 9: a and b share token 1 (6 of 14), c is token 2 (4 of 14). Then a and b share that in halves (5 of 14).
    const answers = [
      [9, 1, 3],
      [9, 1, 4],
      [9, 2],
    ];
    const { probabilities, written } = await scoreNames(reader, { names, answers }, true);
    const [a, b, c] = [(6 / 14) * (5 / 14), (6 / 14) * (5 / 14), 4 / 14];
    const sum = a + b + c;
    expect(probabilities[0]).toBeCloseTo(a / sum, 6);
    expect(probabilities[2]).toBeCloseTo(c / sum, 6);
    expect(probabilities.reduce((total, p) => total + p)).toBeCloseTo(1, 9);
    // Greedy decoding goes by token 1 all the same, though c is the likeliest name.
    expect(names[written]).toBe("a");
  });

  test("to tell names apart their first tokens do, where those differ: one look at the model", async () => {
    const { reader, asked } = scripted({ "7": [0, 1, 2, 3, 0, 0] });
    const answers = [
      [7, 1, 5, 5],
      [7, 2, 5],
      [7, 3],
    ];
    const { probabilities, written } = await scoreNames(reader, { names, answers }, false);
    expect(asked).toEqual(["7"]);
    expect(written).toBe(2);
    expect(probabilities[2] / probabilities[1]).toBeCloseTo(Math.E, 5);
  });

  test("what cannot matter any more is not read to its end", async () => {
    const { reader, asked } = scripted({ "7": [0, 20, 0, 10, 0, 0], "7 1": [0, 0, 0, 0, 0, 20] });
    const answers = [
      [7, 1, 5],
      [7, 2, 5],
      [7, 3, 5],
    ];
    const { probabilities } = await scoreNames(reader, { names, answers }, true);
    expect(asked).toEqual(["7", "7 1"]);
    expect(probabilities[0]).toBeGreaterThan(0.999);
    expect(probabilities[2]).toBeGreaterThan(0);
  });
});

test("log probabilities are those of a softmax over the whole vocabulary, however large the logits", () => {
  const logits = Float32Array.of(1000, 1001, 999);
  const logs = logProbabilities(logits, [0, 1, 2]);
  expect(logs.map(Math.exp).reduce((sum, p) => sum + p)).toBeCloseTo(1, 9);
  expect(logs[1] - logs[0]).toBeCloseTo(1, 6);
});

test("the likeliest tokens come in order; of equals the lower id", () => {
  expect(likeliest(Float32Array.of(1, 3, 2, 3, 0), 3)).toEqual([1, 3, 2]);
  expect(likeliest(Float32Array.of(1, 3), 5)).toEqual([1, 0]);
  expect(likeliest(Float32Array.of(1, 3), 0)).toEqual([]);
});
