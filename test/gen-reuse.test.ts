import fc from "fast-check";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { BatchRunner } from "../src/engine/batch.js";
import { type GenGuard, loadGenGuard } from "../src/gen-guard.js";
import type { Classification, Message } from "../src/index.js";
import { randomGen } from "./support/gen.js";
import { idle } from "./support/idle.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 10);
const TEXTS = ["Why?", "How do I bake bread?", "Tell me a joke, please.", "x".repeat(120)];
const ANSWER: Message = { role: "assistant", content: "You mix flour, water and salt, and wait." };

let guard: GenGuard;
let alone: GenGuard;
beforeAll(async () => {
  const { modelDir } = await randomGen();
  alone = await loadGenGuard(modelDir, { maxStreams: 1, prefixCache: false });
  // Two requests' worth: what free slots hold is soon forgotten.
  guard = await loadGenGuard(modelDir, { maxStreams: 3, prefixCache: { maxTokens: 900 } });
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(() => Promise.all([guard.close(), alone.close()]));

const request = fc.record({
  text: fc.nat(TEXTS.length - 1),
  answered: fc.boolean(),
  cacheKey: fc.constantFrom("", "", "b"),
  /** Aborted after so many turns of the event loop. */
  aborted: fc.option(fc.integer({ min: 0, max: 60 }), { freq: 3 }),
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

const messagesOf = ({ text, answered }: Request): Message[] => [
  { role: "user", content: TEXTS[text] },
  ...(answered ? [ANSWER] : []),
];

const references = new Map<string, Promise<Classification>>();
function reference(one: Request): Promise<Classification> {
  const key = `${one.text} ${one.answered}`;
  const judged = references.get(key) ?? alone.classify({ messages: messagesOf(one) });
  references.set(key, judged);
  return judged;
}

/** @returns the code of what it failed of, if it did */
async function play(one: Request): Promise<string | null> {
  const expected = await reference(one);
  const controller = new AbortController();
  const { cacheKey } = one;
  const asked = guard.classify({ messages: messagesOf(one), cacheKey, signal: controller.signal }).then(
    (found) => ({ found, code: null }),
    ({ code }) => ({ found: null, code: code as string }),
  );
  if (one.aborted !== null) {
    for (let turn = 0; turn < one.aborted; turn++) await new Promise(setImmediate);
    controller.abort();
  }
  const { found, code } = await asked;
  if (found === null) return code;
  expect(found.text).toBe(expected.text);
  for (const [label, probability] of found.probabilities.risk.entries())
    expect(Math.abs(probability - expected.probabilities.risk[label])).toBeLessThan(1e-3);
  return null;
}

/** The n-th run from now on gives what is no number. */
function poison(nth: number) {
  const { run } = BatchRunner.prototype;
  let runs = 0;
  return vi.spyOn(BatchRunner.prototype, "run").mockImplementation(async function (
    this: BatchRunner,
    ...args
  ) {
    const logits = await run.apply(this, args);
    if (++runs === nth) for (const values of Object.values(logits)) values.fill(Number.NaN);
    return logits;
  });
}

test("requests that share their instructions are judged as if alone, whichever are aborted, poisoned or forgotten", async () => {
  const codes = new Set<string | null>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(request, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 3 }),
      fc.option(fc.integer({ min: 1, max: 8 })),
      async (rounds, poisoned) => {
        await reference({ text: 0, answered: false, cacheKey: "", aborted: null });
        for (const [i, round] of rounds.entries()) {
          await Promise.all(round.map(reference));
          const spy = i === 0 && poisoned !== null ? poison(poisoned) : null;
          for (const code of await Promise.all(round.map(play))) codes.add(code);
          spy?.mockRestore();
        }
        await idle(guard);
      },
    ),
    { numRuns: RUNS, endOnFailure: true },
  );
  for (const code of codes) expect([null, "ABORTED", "LOGITS_NOT_FINITE"]).toContain(code);
  expect(guard.load.reusedTokens).toBeGreaterThan(0);
});
