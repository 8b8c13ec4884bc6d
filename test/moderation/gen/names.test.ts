import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { LogitsReader } from "../../../src/engine/logits.js";
import type { Sequence } from "../../../src/engine/sequence.js";
import { AnswerReader, likeliest, logProbabilities } from "../../../src/moderation/gen/answer-reader.js";
import { scoreNames } from "../../../src/moderation/gen/names.js";

/** Of the prompt, which no answer has. */
const PROMPT = 8;

/**
 * A model of six tokens: the logits after a beginning, by its ids; where none are given, all are alike. `runs` has what each
 * run brought.
 *
 * @param tail how many of a run's last tokens have logits
 */
function scripted(table: Record<string, number[]>, tail = 10): { reader: AnswerReader; runs: string[] } {
  const runs: string[] = [];
  let held: number[] = [];
  const feed = async (ids: readonly number[], read: LogitsReader, at = held.length) => {
    runs.push(ids.filter((id) => id !== PROMPT).join(" "));
    held = [...held.slice(0, at), ...ids];
    ids.forEach((_, i) => {
      const text = held.slice(1, at + i + 1).join(" ");
      const nextToken = Float32Array.from(table[text] ?? [0, 0, 0, 0, 0, 0]);
      read({ nextToken }, i, at + i, i >= ids.length - tail ? 0 : -1);
    });
  };
  const limits = { vocabSize: 6, outputs: [{ name: "nextToken", width: 6, position: "tail", tail }] };
  return { reader: new AnswerReader({ feed, limits } as unknown as Sequence, [PROMPT]), runs };
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
    const { reader, runs } = scripted({ "7": [0, 1, 2, 3, 0, 0] });
    const answers = [
      [7, 1, 5, 5],
      [7, 2, 5],
      [7, 3],
    ];
    const { probabilities, written } = await scoreNames(reader, { names, answers }, false);
    expect(runs).toEqual(["7"]);
    expect(written).toBe(2);
    expect(probabilities[2] / probabilities[1]).toBeCloseTo(Math.E, 5);
  });

  test("what cannot matter any more is not read to its end", async () => {
    const { reader, runs } = scripted({ "7": [0, 20, 0, 10, 0, 0], "7 1": [0, 0, 0, 0, 0, 20] });
    const answers = [
      [7, 1, 5],
      [7, 2, 5],
      [7, 3, 5],
    ];
    const { probabilities } = await scoreNames(reader, { names, answers }, true);
    expect(runs).toEqual(["7", "1"]);
    expect(probabilities[0]).toBeGreaterThan(0.999);
    expect(probabilities[2]).toBeGreaterThan(0);
  });

  test.each([10, 3, 1])(
    "of a model that gives a run's last %i tokens, as few runs as that takes; the same numbers",
    async (tail) => {
      const table = {
        "7": [0, 3, 2, 0, 0, 0],
        "7 1": [0, 0, 0, 0, 0, 2],
        "7 1 5": [0, 0, 1, 0, 0, 0],
        "7 1 5 2": [0, 0, 0, 4, 0, 0],
      };
      const { reader, runs } = scripted(table, tail);
      const answers = [
        [7, 1, 5, 2, 3],
        [7, 2, 5],
      ];
      const { probabilities, written } = await scoreNames(
        reader,
        { names: ["a", "b"], answers },
        true,
        [4, 4],
      );
      const p = (logits: number[], id: number) =>
        Math.exp(logProbabilities(Float32Array.from(logits), [id])[0]);
      const a = p(table["7"], 1) * p(table["7 1"], 5) * p(table["7 1 5"], 2) * p(table["7 1 5 2"], 3);
      const b = p(table["7"], 2) * (1 / 6);
      expect(probabilities[0]).toBeCloseTo(a / (a + b), 6);
      expect(written).toBe(0);
      const expected = {
        10: ["7", "1 5 2 3 4 4", "2"],
        3: ["7", "1 5 2", "3 4 4", "2"],
        1: ["7", "1", "5", "2", "3 4 4", "2"],
      };
      expect(runs).toEqual(expected[tail as 10]);
      // What follows the name that is written is known already.
      await reader.after([...answers[0], 4, 4], () => {});
      expect(runs).toHaveLength(expected[tail as 10].length);
    },
  );

  test("what was expected and is asked for costs no run; what was not does", async () => {
    const { reader, runs } = scripted({ "7": [0, 2, 1, 0, 0, 0] });
    await reader.expect([7, 1, 5], [1, 3]);
    const { written } = await scoreNames(
      reader,
      {
        names: ["a", "b"],
        answers: [
          [7, 1],
          [7, 2],
        ],
      },
      false,
    );
    expect(written).toBe(0);
    await reader.after([7, 1, 5], () => {});
    expect(runs).toEqual(["7 1 5"]);
    await reader.after([7, 2, 5], () => {});
    expect(runs).toEqual(["7 1 5", "2 5"]);
  });
});

const RUNS = Number(process.env.PROPERTY_RUNS ?? 100);
/** A name's tokens; small logits, so that none is too unlikely to be read to its end. */
const token = fc.nat(5);
const name = fc.array(token, { minLength: 1, maxLength: 3 });
const few = fc.uniqueArray(name, { minLength: 1, maxLength: 5, selector: String });
const isApart = (all: number[][]) =>
  all.every((one, i) => all.every((other, j) => i === j || one.some((id, k) => other[k] !== id)));

test("whatever was expected, right or wrong: names get the share that products of all their tokens' probabilities give", async () => {
  const script = { all: few.filter(isApart), seed: fc.nat(1000), tail: fc.constantFrom(1, 3, 10) };
  const guess = fc.option(fc.array(token, { minLength: 1, maxLength: 5 }));
  await fc.assert(
    fc.asyncProperty(fc.record({ ...script, guess }), async ({ all, seed, tail, guess }) => {
      const after = (text: readonly number[]) =>
        Array.from({ length: 6 }, (_, id) =>
          Math.sin(seed + [...text, id].reduce((n, x) => n * 7 + x + 1, 0)),
        );
      const table = new Proxy({} as Record<string, number[]>, {
        get: (_, text: string) => after(text.split(" ").map(Number)),
      });
      const { reader } = scripted(table, tail);
      const answers = all.map((ids) => [0, ...ids]);
      if (guess) await reader.expect([0, ...guess], [1, guess.length + 1]);
      const { probabilities, written } = await scoreNames(reader, { names: all.map(String), answers }, true);
      const products = answers.map((ids) =>
        ids.slice(1).reduce((product, id, i) => {
          const logits = Float32Array.from(after(ids.slice(0, i + 1)));
          return product * Math.exp(logProbabilities(logits, [id])[0]);
        }, 1),
      );
      const sum = products.reduce((total, one) => total + one);
      for (const [i, product] of products.entries()) expect(probabilities[i]).toBeCloseTo(product / sum, 9);
      expect(answers[written]).toEqual(greedy(answers, after));
    }),
    { numRuns: RUNS },
  );
});

/** The name that the likeliest token at each place leads to, of those that names go on with. */
function greedy(answers: readonly number[][], after: (text: readonly number[]) => number[]): number[] {
  let left = [...answers];
  for (let at = 1; left.length > 1; at++) {
    const logits = Float32Array.from(after(left[0].slice(0, at)));
    const best = left.map((ids) => ids[at]).reduce((a, b) => (logits[b] > logits[a] ? b : a));
    left = left.filter((ids) => ids[at] === best);
  }
  return left[0];
}

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
