import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { ClosedError } from "../../src/errors.js";
import type { Prompt } from "../../src/guard/prompt.js";
import { Guard, loadGuard } from "../../src/guard.js";
import type { GuardStream } from "../../src/moderation/stream.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { ChatTemplate, type Message } from "../../src/tokenizer/chat-template/template.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 10);
const TOLERANCE = 1e-3;
/** Prompts take 40 to 110 of them, so that responses slide soon. */
const CONTEXT = 160;
const WORDS = "The bakery on the corner sells bread, rolls and cake every morning before seven. ";

const ASSISTANTS = ["You are a baker. ".repeat(4), "You sell bicycles, and nothing else. ".repeat(5)];
const TURNS = ["How?", `${WORDS}Is that so?`, "And tomorrow, and on the day after that?"];

let engine: Engine;
let guard: Guard;
let alone: Guard;
beforeAll(async () => {
  alone = await loadGuard({ cacheDir: MODEL_CACHE, maxStreams: 2, maxTokens: CONTEXT, prefixCache: false });
  // What free slots hold is soon forgotten.
  engine = await Engine.load(alone.modelDir, {
    maxStreams: 4,
    maxTokens: CONTEXT,
    prefixCache: { maxTokens: 300 },
  });
  const template = await ChatTemplate.load(alone.modelDir, alone.tokenizer);
  guard = new Guard(alone.modelDir, engine, alone.tokenizer, template);
});
afterAll(() => Promise.all([guard.close(), alone.close()]));

const conversation = fc
  .tuple(fc.nat(1), fc.nat(2), fc.option(fc.nat(2)))
  .map(([assistant, first, second]): Message[] => [
    { role: "system", content: ASSISTANTS[assistant] },
    { role: "user", content: TURNS[first] },
    ...(second === null
      ? []
      : [
          { role: "assistant", content: "Yes." },
          { role: "user", content: TURNS[second] },
        ]),
  ]);

const stream = fc.record({
  messages: conversation,
  cacheKey: fc.constantFrom("", "", "b"),
  /** Tokens of the response, in pieces. */
  pieces: fc.array(fc.integer({ min: 1, max: 45 }), { minLength: 0, maxLength: 8 }),
  seed: fc.nat(2),
  /** Pieces are not waited for. */
  hurried: fc.boolean(),
  /** After so many turns of the event loop it is closed. */
  closed: fc.option(fc.integer({ min: 0, max: 60 }), { freq: 4 }),
  /** The conversation's next turn is read in the background once it is over. */
  ahead: fc.boolean(),
});
type Stream = typeof stream extends fc.Arbitrary<infer T> ? T : never;

const text = WORDS.repeat(40);
let response: number[][] = [];
beforeAll(() => {
  const ids = alone.tokenizer.encode(text);
  response = [0, 7, 11].map((from) => ids.slice(from));
});

function expectSame(found: readonly Verdict[], expected: readonly Verdict[]): void {
  for (const [i, verdict] of found.entries()) {
    expect(verdict.tokenId).toBe(expected[i].tokenId);
    for (const [j, probability] of verdict.probabilities.risk.entries())
      expect(Math.abs(probability - expected[i].probabilities.risk[j])).toBeLessThan(TOLERANCE);
  }
}

const references = new Map<string, Promise<{ prompt: Verdict; response: Verdict[] }>>();
let last: Promise<unknown> = Promise.resolve();
/** What a stream of the same tokens gets that is alone, one at a time. */
function reference({ messages, pieces, seed }: Stream) {
  const key = JSON.stringify([messages, pieces, seed]);
  const known = references.get(key);
  if (known) return known;
  const judged = last.then(async () => {
    const stream = alone.stream({ messages, overflow: "slide" });
    const prompt = (await stream.prompt) as Verdict;
    const verdicts: Verdict[] = [];
    await feed(stream, pieces, seed, false, verdicts);
    stream.close();
    return { prompt, response: verdicts };
  });
  last = judged;
  references.set(key, judged);
  return judged;
}

async function feed(on: GuardStream, pieces: number[], seed: number, hurried: boolean, into: Verdict[]) {
  let at = 0;
  const pushed: Promise<Verdict[]>[] = [];
  for (const count of pieces) {
    pushed.push(on.push(response[seed].slice(at, at + count)));
    at += count;
    if (!hurried) into.push(...(await pushed[pushed.length - 1]));
  }
  const all = await Promise.allSettled(pushed);
  for (const one of all) {
    if (one.status === "rejected") throw one.reason;
    if (hurried) into.push(...one.value);
  }
}

let slides = 0;

async function play(one: Stream, prompt?: Prompt): Promise<void> {
  const { messages, cacheKey, pieces, seed, hurried, closed, ahead } = one;
  const on = guard.stream({ ...(prompt ? { prompt } : { messages }), cacheKey, overflow: "slide" });
  const found: { prompt: Verdict | null; response: Verdict[] } = { prompt: null, response: [] };
  const judged = on.prompt
    .then((verdict) => {
      found.prompt = verdict;
    })
    .then(() => feed(on, pieces, seed, hurried, found.response));
  if (closed !== null) {
    for (let turn = 0; turn < closed; turn++) await new Promise(setImmediate);
    on.close();
  }
  const whole = await judged.then(
    () => true,
    () => false,
  );
  if (closed === null) expect(whole).toBe(true);
  const expected = await reference(one);
  if (found.prompt) expectSame([found.prompt], [expected.prompt]);
  expectSame(found.response, expected.response);
  slides += on.slides;
  on.close();
  if (!ahead) return;
  const { ids, turns } = await guard.template
    .goingOn(CONTEXT - 1, messages, "Yes.")
    .catch(() => ({ ids: [], turns: [] }));
  const reads = turns.map(({ end }) => end);
  const sequence = engine.openBackground(cacheKey);
  await sequence.feed(ids, () => {}, 0, reads).catch(({ code }) => expect(code).toMatch(/^STREAM_/));
  sequence.close(new ClosedError("STREAM_ENDED", "It is read."));
}

test("streams that slide, beside others that begin alike, are closed, forgotten or read ahead, are judged as if alone", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(stream, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 3 }),
      async (rounds) => {
        for (const round of rounds) await Promise.all(round.map((one) => play(one)));
        // A slot is free once no step is using it.
        await idle(guard);
      },
    ),
    { numRuns: RUNS, endOnFailure: true },
  );
  expect(guard.load.reusedTokens).toBeGreaterThan(0);
  expect(slides).toBeGreaterThan(0);
});

test("choices of one request, of any lengths, ended at any time, are judged as each would be alone", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({ messages: conversation, cacheKey: fc.constantFrom("", "b") }),
      fc.array(stream, { minLength: 2, maxLength: 6 }),
      async (request, choices) => {
        const prompt = guard.prompt({ messages: request.messages });
        await Promise.all(choices.map((choice) => play({ ...choice, ...request }, prompt)));
        await idle(guard);
      },
    ),
    { numRuns: RUNS, endOnFailure: true },
  );
});
