import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Attempt } from "../../src/gate/attempt.js";
import { ModerationViolation } from "../../src/gate/violation.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { resolvePolicy } from "../../src/moderation/policy.js";
import { ruleResponse } from "../../src/moderation/ruling.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { idle } from "../support/idle.js";

const messages = [{ role: "user", content: "How do I end a process?" }];
const words = fc.constantFrom(
  " open",
  " the task",
  " manager",
  "\n\n",
  " é",
  " e\u0301",
  " 👍🏽",
  " kill",
  "ing",
  " 12",
  "，结束任务",
);
/** Flagged in each attempt where little is let by. */
const FLAGGED = [" kill", "ing", " 12"];
const answers = fc.array(fc.array(words, { maxLength: 20 }), { minLength: 1, maxLength: 4 });

let guard: Guard;
beforeAll(async () => {
  guard = await loadGuard(undefined, { maxStreams: 4, maxTokens: 512 });
});
afterAll(async () => {
  await idle(guard);
  await guard.close();
});

/** The verdicts of a text that is judged at once. */
async function judged(text: string): Promise<Verdict[]> {
  const stream = guard.stream({ messages, overflow: "slide" });
  const verdicts: Verdict[] = [];
  for (const verdict of [...(await stream.pushText(text)), ...(await stream.flush())]) {
    verdicts.length = verdict.index;
    verdicts.push(verdict);
  }
  verdicts.length = stream.settled;
  stream.close();
  return verdicts;
}

test("what a real guard lets out, however often it went back, is clear when it is judged at once", async () => {
  let tried = 0;
  await fc.assert(
    fc.asyncProperty(
      answers,
      fc.integer({ min: 1, max: 8 }),
      // The embedded guard's probabilities of random words lie on both sides.
      fc.constantFrom(0.02, 0.05, 0.2, 0.5),
      async (texts, buffer, threshold) => {
        const data = { threshold, prompt: { action: "ignore" as const } };
        const asked: Attempt[] = [];
        const source = (_: AbortSignal, attempt: Attempt) => {
          asked.push(attempt);
          return texts[asked.length - 1] ?? [];
        };
        const stream = guard.moderate(source, {
          ...{ messages, policy: data, mode: "regenerate" as const, buffer, attempts: texts.length },
        });
        let text = "";
        let error: unknown = null;
        try {
          for await (const chunk of stream) text += chunk;
        } catch (thrown) {
          error = thrown;
        }
        const { end, decision, stats } = await stream.done;
        tried += stats.regenerations;
        if (end === "flagged") expect(error).toBeInstanceOf(ModerationViolation);
        else {
          expect({ end, error }).toEqual({ end: "complete", error: null });
          const verdicts = await judged(text);
          expect(ruleResponse(verdicts, resolvePolicy(data, guard.labels)).violation).toBeNull();
          if (text !== "") expect(decision?.tokens).toBe(verdicts.length);
          expect(text).toBe(`${asked.at(-1)?.prefix}${(texts[asked.length - 1] ?? []).join("")}`);
        }
      },
    ),
    // Chance alone may bring few texts that are flagged.
    { numRuns: 60, examples: [1, 4, 8].map((buffer) => [Array(4).fill(FLAGGED), buffer, 0.02]) },
  );
  expect(tried).toBeGreaterThan(10);
});
