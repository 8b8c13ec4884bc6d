import fc from "fast-check";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { resolvePolicy } from "../../src/moderation/policy.js";
import { GuardStream } from "../../src/moderation/stream.js";
import type { StreamOptions } from "../../src/moderation/stream-options.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const TOLERANCE = 1e-3;
const messages = [{ role: "user", content: "How do I end a process?" }];
const words = fc.array(
  fc.constantFrom(
    "Open ",
    "the task",
    " manager",
    "\n\n",
    "é",
    "e\u0301",
    "👍🏽",
    "kill",
    "ing",
    " 1",
    "23",
    "，结束任务",
    "  ",
  ),
  { maxLength: 24 },
);
const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 });

let guard: Guard;
let engine: Engine;
beforeAll(async () => {
  guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 4, maxTokens: 256 });
  engine = await Engine.load(guard.modelDir, { maxStreams: 2, maxTokens: 256 });
});
afterAll(async () => {
  await idle(guard);
  await guard.close();
  await engine.close();
});

function open(options: StreamOptions = {}, sequence = engine.open()): GuardStream {
  const prefix = guard.template.prefixWithin(256, messages);
  return new GuardStream(sequence, guard.tokenizer, guard.labels, prefix, {
    overflow: "slide",
    restarts: true,
    ...options,
  });
}

function chunksOf(text: string, lengths: readonly number[]): string[] {
  const chunks: string[] = [];
  for (let at = 0, i = 0; at < text.length; at += lengths[i++ % lengths.length]) {
    chunks.push(text.slice(at, at + lengths[i % lengths.length]));
  }
  return chunks;
}

/** Pushes a text and returns what stands then; settled where it ends. */
async function push(stream: GuardStream, chunks: string[], ends = false): Promise<Verdict[]> {
  const standing: Verdict[] = [];
  const take = (verdicts: Verdict[]) => {
    for (const verdict of verdicts) {
      standing.length = Math.min(standing.length, verdict.index);
      standing.push(verdict);
    }
  };
  for (const chunk of chunks) take(await stream.pushText(chunk));
  if (ends) take(await stream.flush());
  return standing;
}

function expectSame(verdicts: Verdict[], expected: Verdict[]): void {
  expect(verdicts.map((v) => v.tokenId)).toEqual(expected.map((v) => v.tokenId));
  expect(verdicts.map((v) => v.index)).toEqual(expected.map((_, i) => i));
  expect(verdicts.map((v) => v.text).join("")).toBe(expected.map((v) => v.text).join(""));
  const all = (of: Verdict[]) => of.flatMap(({ probabilities }) => [...probabilities.risk]);
  const wanted = all(expected);
  expect(all(verdicts)).toHaveLength(wanted.length);
  expect(Math.max(0, ...all(verdicts).map((p, i) => Math.abs(p - wanted[i])))).toBeLessThan(TOLERANCE);
}

test("a response that begins again, any number of times, is judged as its last text alone", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(100), words, fc.boolean()), { minLength: 1, maxLength: 4 }),
      sizes,
      fc.boolean(),
      async (runs, lengths, restarts) => {
        const stream = open({ restarts });
        let text = "";
        let verdicts: Verdict[] = [];
        for (const [kept, more, ends] of runs) {
          if (text !== "") stream.restart();
          text = text.slice(0, Math.floor((text.length * kept) / 100)) + more.join("");
          verdicts = await push(stream, chunksOf(text, lengths), ends);
        }
        const rest = await stream.flush();
        for (const verdict of rest) {
          verdicts.length = verdict.index;
          verdicts.push(verdict);
        }
        // A flush may take the last token away and bring none.
        verdicts.length = stream.settled;
        const alone = guard.stream({ messages, overflow: "slide" });
        const expected = await push(alone, [text], true);
        expectSame(verdicts, expected);
        expect(stream.settled).toBe(expected.length);
        if (expected.length > 0) expect(await stream.end()).toEqual(await alone.end());
        alone.close();
        stream.close();
      },
    ),
    { numRuns: 60 },
  );
});

test("what comes again as it was is not run again", async () => {
  const sequence = engine.open();
  const stream = open({}, sequence);
  await push(stream, ["Open the task manager and find the process that hangs."]);
  const feed = vi.spyOn(sequence, "feed");
  stream.restart();
  const again = await push(stream, ["Open the task manager and", " find it there"], true);
  const run = feed.mock.calls.flatMap(([ids]) => [...ids]);
  expect(guard.tokenizer.decode(run)).toBe(" it there");
  expect(stream.recalled).toBe(guard.tokenizer.encode("Open the task manager and find").length);
  expect(again.map(({ text }) => text).join("")).toBe("Open the task manager and find it there");
  stream.close();
});

test("without a text, nothing is left of a response that begins again", async () => {
  const stream = open();
  await push(stream, ["Open the task manager"]);
  stream.restart();
  expect(await stream.flush()).toEqual([]);
  expect(stream.settled).toBe(0);
  await expect(stream.end()).rejects.toMatchObject({ code: "EMPTY_RESPONSE" });
});

test("a stream that is over, or was given ids, does not begin again", async () => {
  const ids = guard.stream({ messages });
  await ids.push(guard.tokenizer.encode("Open"));
  expect(() => ids.restart()).toThrow(expect.objectContaining({ code: "MIXED_INPUT" }));
  ids.close();
  expect(() => ids.restart()).toThrow(expect.objectContaining({ code: "STREAM_CLOSED" }));
});

test("a stream's own ruling is that of the text since it began again", async () => {
  const policy = resolvePolicy({ thresholds: { Unsafe: 0 }, prompt: { action: "ignore" } }, guard.labels);
  const stream = open({ policy });
  await push(stream, ["Open the task manager"], true);
  expect(stream.ruling?.violation).not.toBeNull();
  stream.restart();
  expect(stream.ruling?.violation).toBeNull();
  stream.close();
});
