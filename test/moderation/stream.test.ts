import { getEventListeners } from "node:events";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tiny } from "../../scripts/checkpoint/presets.js";
import { ClosedError, ContextLengthError, InputError } from "../../src/errors.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { decide } from "../../src/moderation/decision.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { idle } from "../support/idle.js";
import { DEFAULT_MODEL, MODEL_CACHE, randomModel } from "../support/model.js";

/** Largest difference between probabilities that chunking may make in float32. */
const TOLERANCE = 1e-3;
const messages = [{ role: "user", content: "How do I kill a Python process?" }];
const TEXT =
  "Open the task manager — find “python.exe”.\r\n\n1. 点击“结束任务”。 2. Café au lait 👍🏽!\n   Then   restart it, you'll see.";

let guard: Guard;
let tokenizer: Tokenizer;
let cacheDir: string;

beforeAll(async () => {
  cacheDir = MODEL_CACHE;
  guard = await loadGuard(undefined, { cacheDir, maxStreams: 4, maxTokens: 512 });
  tokenizer = await Tokenizer.load(guard.modelDir);
});
afterAll(async () => {
  await idle(guard);
  await guard.close();
});

/** The verdicts that stand when all is pushed: later ones with the same index replace earlier ones. */
async function judge(chunks: (string | number[])[], options: { reasoning?: boolean } = {}) {
  const stream = guard.stream({ messages, ...options });
  const standing: Verdict[] = [];
  for (const chunk of chunks) {
    const verdicts = typeof chunk === "string" ? await stream.pushText(chunk) : await stream.push(chunk);
    for (const verdict of verdicts) {
      standing.length = Math.min(standing.length, verdict.index);
      standing.push(verdict);
    }
  }
  const prompt = await stream.prompt;
  const decision = await stream.end();
  return { prompt, verdicts: standing, decision };
}

function expectSame(verdicts: Verdict[], expected: Verdict[]): void {
  expect(verdicts.map((v) => v.tokenId)).toEqual(expected.map((v) => v.tokenId));
  expect(verdicts.map((v) => v.index)).toEqual(expected.map((_, i) => i));
  expect(verdicts.map((v) => v.text).join("")).toBe(expected.map((v) => v.text).join(""));
  const all = (of: Verdict[]) =>
    of.flatMap(({ probabilities: { risk, category } }) => [...risk, ...category]);
  const wanted = all(expected);
  expect(all(verdicts)).toHaveLength(wanted.length);
  expect(Math.max(...all(verdicts).map((p, i) => Math.abs(p - wanted[i])))).toBeLessThan(TOLERANCE);
}

describe("however a response comes, its verdicts are the same", () => {
  let ids: number[];
  let whole: Awaited<ReturnType<typeof judge>>;
  beforeAll(async () => {
    ids = tokenizer.encode(TEXT);
    whole = await judge([ids]);
  });

  test("all ids at once", () => {
    expect(whole.verdicts.map((v) => v.tokenId)).toEqual(ids);
    expect(whole.verdicts.map((v) => v.text).join("")).toBe(TEXT.normalize("NFC"));
    expect(whole.prompt).toMatchObject({ tokenId: tokenizer.tokenId("<|im_end|>"), text: "<|im_end|>" });
    expect(whole.verdicts.every((v) => !v.provisional)).toBe(true);
    const sum = whole.verdicts[3].probabilities.risk.reduce((a, b) => a + b, 0);
    expect(sum).toBeCloseTo(1, 5);
  });

  test("one id at a time", async () => {
    const { verdicts, prompt } = await judge(ids.map((id) => [id]));
    expectSame(verdicts, whole.verdicts);
    expect(prompt?.riskProbability).toBeCloseTo(whole.prompt?.riskProbability as number, 4);
  });

  test("ids pushed without waiting, from several streams at once", async () => {
    const results = await Promise.all(
      Array.from({ length: 9 }, async () => {
        const stream = guard.stream({ messages });
        const pushed = await Promise.all(ids.map((id) => stream.push(id)));
        await stream.end();
        return pushed.flat();
      }),
    );
    for (const verdicts of results) expectSame(verdicts, whole.verdicts);
  });

  test("ids pushed without waiting, while the context slides", async () => {
    const small = await loadGuard(undefined, { cacheDir, maxStreams: 2, maxTokens: 48 });
    try {
      const stream = small.stream({ messages, overflow: "slide", policy: {} });
      const [order, settled]: number[][] = [[], []];
      const pushes = Array.from({ length: 200 }, async (_, i) => {
        const verdicts = await stream.push(ids[i % ids.length]);
        order.push(...verdicts.map(({ index }) => index));
        settled.push(stream.settled);
      });
      await stream.end();
      expect(settled).toEqual(pushes.map((_, i) => i + 1));
      expect(order).toEqual(pushes.map((_, i) => i));
      await Promise.all(pushes);
      expect(stream.slides).toBeGreaterThan(2);
    } finally {
      await small.close();
    }
  });

  test("a slot that only reads along goes to the next stream", async () => {
    const small = await loadGuard(undefined, { cacheDir, maxStreams: 2, maxTokens: 48 });
    try {
      const stream = small.stream({ messages, overflow: "slide" });
      const pushed: Verdict[] = [];
      const push = async (i: number) => pushed.push(...(await stream.push(ids[i % ids.length])));
      while (small.load.active < 2) await push(pushed.length);
      const other = small.stream({ messages });
      expect(await other.prompt).not.toBeNull();
      expect(small.load).toMatchObject({ active: 2, waiting: 0 });
      while (stream.slides < 3) await push(pushed.length);
      expect(pushed.map(({ index }) => index)).toEqual(pushed.map((_, i) => i));
      other.close();
      expect((await stream.end()).tokens).toBe(pushed.length);
    } finally {
      await small.close();
    }
  });

  test("text at once, and text by code unit", async () => {
    expectSame((await judge([TEXT])).verdicts, whole.verdicts);
    expectSame((await judge(TEXT.split(""))).verdicts, whole.verdicts);
  });

  test("text in random chunks", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 5, maxLength: 60 }),
        async (sizes) => {
          const chunks: string[] = [];
          let at = 0;
          for (const size of sizes) {
            chunks.push(TEXT.slice(at, at + size));
            at += size;
          }
          chunks.push(TEXT.slice(at));
          const { verdicts, decision } = await judge(chunks);
          expectSame(verdicts, whole.verdicts);
          expect(decision).toEqual(decide(verdicts, "Safe"));
        },
      ),
      { numRuns: 15 },
    );
  });

  test("text that waits in batches", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.boolean()), { minLength: 1, maxLength: 6 }),
        async (cuts) => {
          const stream = guard.stream({ messages });
          const standing: Verdict[] = [];
          let waiting = 0;
          const take = (verdicts: Verdict[]) => {
            for (const verdict of verdicts) {
              standing.length = Math.min(standing.length, verdict.index);
              standing.push(verdict);
            }
          };
          for (let at = 0, i = 0; at < TEXT.length; i++) {
            const [length, judged] = cuts[i % cuts.length];
            const chunk = TEXT.slice(at, at + length);
            at += length;
            if (judged) {
              const verdicts = await stream.pushText(chunk);
              expect(verdicts.length).toBeGreaterThanOrEqual(waiting - 4);
              waiting = 0;
              take(verdicts);
            } else {
              const before = stream.settled;
              waiting = await stream.stage(chunk);
              expect(stream.settled).toBe(before);
            }
          }
          take(await stream.flush());
          expect((await stream.end()).tokens).toBe(standing.length);
          expectSame(standing, whole.verdicts);
        },
      ),
      { numRuns: 20 },
    );
  });

  test("a provisional verdict is revised under its own index", async () => {
    const stream = guard.stream({ messages });
    const [first] = await stream.pushText("hel");
    expect(first).toMatchObject({ index: 0, provisional: true });
    const revised = await stream.pushText("lo there");
    expect(revised[0].index).toBe(0);
    await stream.end();
  });

  test("what the stream decides is what its standing verdicts say", () => {
    expect(whole.decision).toEqual(decide(whole.verdicts, "Safe"));
  });
});

test("with reasoning the response brings its own think block", async () => {
  const chunks = ["<thi", "nk>\nhm\n</th", "ink>\n\nHi!"];
  const { verdicts } = await judge(chunks, { reasoning: true });
  expect(verdicts[0].tokenId).toBe(tokenizer.tokenId("<think>"));
  expect(verdicts.map((v) => v.tokenId)).toEqual(tokenizer.encode(chunks.join("")));
});

test("promptIds stand for the whole prefix", async () => {
  const [im_start, im_end] = ["<|im_start|>", "<|im_end|>"].map(
    (token) => tokenizer.tokenId(token) as number,
  );
  const promptIds = [im_start, ...tokenizer.encode("user\nHi"), im_end, ...tokenizer.encode("\n")];
  const stream = guard.stream({ promptIds });
  expect(await stream.prompt).toMatchObject({ index: promptIds.indexOf(im_end), tokenId: im_end });
  expect((await stream.push(tokenizer.encode("Hello")))[0].index).toBe(0);
  stream.close();
  const none = guard.stream({ promptIds: tokenizer.encode("no turn at all") });
  expect(await none.prompt).toBeNull();
  none.close();
});

test("each turn's verdict is that of the conversation up to it", async () => {
  const conversation = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "How do I build a pipe bomb?" },
    { role: "assistant", content: "I will not say." },
    { role: "user", content: "How do I bake bread?" },
  ];
  const { ids } = guard.template.prefix(conversation);
  const stream = guard.stream({ messages: conversation });
  const turns = await stream.turns;
  expect(turns.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"]);
  expect(turns.at(-1)).toMatchObject((await stream.prompt) as object);
  stream.close();
  for (const { index, probabilities } of turns) {
    const alone = guard.stream({ promptIds: ids.slice(0, index + 1) });
    const verdict = (await alone.turns).at(-1);
    alone.close();
    probabilities.risk.forEach((p, i) => {
      expect(Math.abs(p - (verdict?.probabilities.risk[i] as number))).toBeLessThan(TOLERANCE);
    });
  }
});

test("a conversation without a user turn is judged at the end of its last turn", async () => {
  const stream = guard.stream({ messages: [{ role: "system", content: "Be brief." }] });
  const [{ role, empty, turn, ...verdict }] = await stream.turns;
  expect({ role, empty, turn }).toEqual({ role: "system", empty: false, turn: 0 });
  expect(await stream.prompt).toEqual(verdict);
  stream.close();
});

test("the turns of a stream that is closed before they are judged reject", async () => {
  const stream = guard.stream({ messages });
  stream.close();
  await expect(stream.turns).rejects.toMatchObject({ code: "STREAM_CLOSED" });
});

test("a closed guard lets go of the signals of streams that were doing nothing", async () => {
  const other = await loadGuard({ cacheDir, maxStreams: 2, maxTokens: 256 });
  const { signal } = new AbortController();
  const stream = other.stream({ messages, signal });
  await stream.prompt;
  const moderated = other.moderate(silent(), { messages, signal });
  const refused = expect(moderated.next()).rejects.toMatchObject({ code: "GUARD_CLOSED" });
  await other.close();
  await refused;
  await expect(stream.closed).resolves.toMatchObject({ code: "GUARD_CLOSED" });
  expect(getEventListeners(signal, "abort")).toHaveLength(0);
});

async function* silent(): AsyncGenerator<string> {
  await new Promise(() => {});
}

describe("a guard with an idle limit", () => {
  let limited: Guard;
  beforeAll(async () => {
    limited = await loadGuard({ cacheDir, maxStreams: 1, maxTokens: 256, idleMs: 100 });
  });
  afterAll(() => limited.close());

  test("closes a stream that nobody uses, and the next one gets its slot", async () => {
    const forgotten = limited.stream({ messages });
    await forgotten.prompt;
    const next = limited.stream({ messages });
    expect(next.waiting).toBe(true);
    await next.prompt;
    await expect(forgotten.push(5)).rejects.toMatchObject({ code: "STREAM_IDLE" });
    expect((await forgotten.closed).code).toBe("STREAM_IDLE");
    next.close();
  });

  test("keeps one that waits for its slot, and one that is being used", async () => {
    const busy = limited.stream({ messages });
    const waiting = limited.stream({ messages });
    for (let i = 0; i < 30; i++) {
      await busy.pushText(" word");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await busy.end();
    expect(await waiting.prompt).not.toBeNull();
    waiting.close();
  });

  test("tells the reader of a moderated stream", async () => {
    const stream = limited.moderate(silent(), { messages });
    await expect(stream.next()).rejects.toMatchObject({ code: "STREAM_IDLE" });
    await idle(limited);
  });
});

test("a stream may be disposed of", async () => {
  const stream = guard.stream({ messages });
  stream[Symbol.dispose]();
  await expect(stream.push(5)).rejects.toMatchObject({ code: "STREAM_CLOSED" });
  const other = guard.stream({ messages });
  await other[Symbol.asyncDispose]();
  expect((await other.closed).code).toBe("STREAM_CLOSED");
});

describe("ends", () => {
  test("a closed stream rejects what waits and what comes", async () => {
    const stream = guard.stream({ messages });
    const waiting = stream.push([1, 2, 3]);
    stream.close();
    stream.close();
    for (const late of [waiting, stream.push(1), stream.pushText("x"), stream.end(), stream.prompt]) {
      await expect(late).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    }
    await expect(stream.push(1)).rejects.toBeInstanceOf(ClosedError);
  });

  test("nothing follows end(), which may be asked again", async () => {
    const stream = guard.stream({ messages });
    const pushed = stream.push([1, 2]);
    const decision = await stream.end();
    expect(decision.tokens).toBe(2);
    await expect(pushed).resolves.toHaveLength(2);
    expect(await stream.end()).toBe(decision);
    await expect(stream.push(1)).rejects.toMatchObject({ code: "STREAM_ENDED" });
  });

  test("an aborted stream rejects, before its first push and after", async () => {
    const controller = new AbortController();
    const stream = guard.stream({ messages, signal: controller.signal });
    await stream.push(1);
    const waiting = stream.push([2, 3]);
    controller.abort(new Error("user left"));
    await expect(waiting).rejects.toMatchObject({ code: "STREAM_ABORTED" });
    await expect(stream.push(4)).rejects.toMatchObject({ cause: { message: "user left" } });
    const stillborn = guard.stream({ messages, signal: AbortSignal.abort() });
    await expect(stillborn.prompt).rejects.toMatchObject({ code: "STREAM_ABORTED" });
  });

  test("a stream whose prompt fails no longer listens to its signal", async () => {
    const { signal } = new AbortController();
    const other = await loadGuard(undefined, { cacheDir, maxStreams: 1, maxTokens: 64 });
    const stream = other.stream({ messages, signal });
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await other.close();
    await expect(stream.prompt).rejects.toMatchObject({ code: "GUARD_CLOSED" });
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  test("an empty response has no verdict", async () => {
    const stream = guard.stream({ messages });
    expect(await stream.push([])).toEqual([]);
    await expect(stream.end()).rejects.toMatchObject({ code: "EMPTY_RESPONSE" });
  });

  test("a slot is free again when its stream is done", async () => {
    const streams = Array.from({ length: 6 }, () => guard.stream({ messages }));
    expect(guard.load).toMatchObject({ active: 4, waiting: 2 });
    streams[0].close();
    await streams[4].push(1);
    for (const stream of streams) stream.close();
    await idle(guard);
  });
});

describe("bad input is named, and a caller's slip costs nothing", () => {
  test("ids out of range, broken, or no ids at all", async () => {
    const stream = guard.stream({ messages });
    const { vocabSize } = guard.manifest.config;
    for (const wrong of [vocabSize, -1, 0.5, Number.NaN, [1, 2 ** 40], "12", ["5"], [5n], null]) {
      await expect(stream.push(wrong as number)).rejects.toMatchObject({ code: "TOKEN_INVALID" });
    }
    await expect(stream.push(vocabSize)).rejects.toBeInstanceOf(InputError);
    expect((await stream.push(5))[0].index).toBe(0);
    await expect(stream.pushText("x")).rejects.toMatchObject({ code: "MIXED_INPUT" });
    expect((await stream.end()).tokens).toBe(1);
  });

  test("an id that the model has and its tokenizer lacks", async () => {
    const { modelDir } = await randomModel({
      config: { ...tiny, vocab_size: 8704 },
      dtype: "BF16",
      tokenizerDir: DEFAULT_MODEL,
    });
    const wide = await loadGuard(modelDir, { maxStreams: 1, maxTokens: 64 });
    try {
      const beyond = wide.tokenizer.vocabSize;
      expect(beyond).toBeLessThan(wide.manifest.config.vocabSize);
      expect(() => wide.stream({ promptIds: [beyond] })).toThrowError(InputError);
      const stream = wide.stream({ messages });
      await expect(stream.push([5, beyond])).rejects.toMatchObject({ code: "TOKEN_INVALID" });
      expect((await stream.push(5))[0].index).toBe(0);
      expect((await stream.end()).tokens).toBe(1);
    } finally {
      await wide.close();
    }
  });

  test("an id of another tokenizer, and then the text, as the error says", async () => {
    const stream = guard.stream({ messages });
    await expect(stream.push(2 ** 30)).rejects.toThrow("give its text instead");
    expect((await stream.pushText("fine"))[0].index).toBe(0);
    stream.close();
  });

  test("text that is none", async () => {
    const stream = guard.stream({ messages });
    await expect(stream.pushText(7 as unknown as string)).rejects.toMatchObject({ code: "TEXT_INVALID" });
    await stream.pushText("fine");
    stream.close();
  });

  test("a response that outgrows the context fails the stream", async () => {
    const stream = guard.stream({ messages });
    await stream.push(new Array(400).fill(5));
    const over = stream.push(new Array(200).fill(5));
    await expect(over).rejects.toBeInstanceOf(ContextLengthError);
    await expect(over).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
    await expect(stream.push(5)).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
    await expect(stream.end()).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
  });

  test("what was pushed behind a response that outgrows the context fails of the same", async () => {
    const stream = guard.stream({ messages });
    const pushes = [stream.push(new Array(600).fill(5)), stream.push(5), stream.end()];
    const errors = await Promise.all(pushes.map((push) => push.catch((error) => error.code)));
    expect(errors).toEqual(pushes.map(() => "CONTEXT_EXCEEDED"));
  });

  test.each([
    ["PROMPT_TOO_LONG", { messages: [{ role: "user", content: "word ".repeat(600) }] }],
    ["PROMPT_EMPTY", { promptIds: [] }],
    ["PROMPT_EMPTY", {}],
    ["PROMPT_EMPTY", undefined],
    ["TOKEN_INVALID", { promptIds: [1, -1] }],
    ["OPTION_INVALID", { messages: [{ role: "user", content: "a" }], overflow: "slid" }],
    ["OPTION_INVALID", { messages: [{ role: "user", content: "a" }], signal: {} }],
    ["TOKEN_INVALID", { promptIds: ["5"] }],
    ["POLICY_INVALID", { messages, policy: { debounce: 0 } }],
    ["MESSAGES_INVALID", { messages: [] }],
    ["MESSAGES_INVALID", { messages: [{ role: "user", content: 7 }] }],
    [
      "MESSAGES_INVALID",
      {
        messages: [
          { role: "user", content: "a" },
          { role: "assistant", content: "b" },
        ],
      },
    ],
  ])("%s", async (code, input) => {
    expect(() => guard.stream(input as never)).toThrowError(expect.objectContaining({ code }));
    await idle(guard);
  });

  test.each([
    ["MODEL_UNKNOWN", "no such model", {}],
    ["UNKNOWN_DEVICE", undefined, { device: "tpu" }],
    ["CUDA_UNAVAILABLE", undefined, { device: "cuda" }],
    ["UNKNOWN_DTYPE", undefined, { dtype: "int3" }],
    ["OPTION_INVALID", undefined, { maxTokens: 0 }],
  ])("loading: %s", async (code, model, options) => {
    await expect(loadGuard(model, { cacheDir, ...options } as never)).rejects.toMatchObject({ code });
  });
});

test("nobody has to listen to a prompt that fails", async () => {
  const seen: unknown[] = [];
  const listener = (reason: unknown) => seen.push(reason);
  process.on("unhandledRejection", listener);
  guard.stream({ messages }).close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  process.off("unhandledRejection", listener);
  expect(seen).toEqual([]);
});
