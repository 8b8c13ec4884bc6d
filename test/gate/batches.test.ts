import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ModeratedStream } from "../../src/gate/moderate.js";
import { cases, read } from "./pacing.js";
import { policyOf, ScriptedStream } from "./scripted.js";

beforeEach(() => {
  ScriptedStream.open = 0;
});
afterEach(() => {
  vi.useRealTimers();
  expect(ScriptedStream.open).toBe(0);
});

const LONG_MS = 2 ** 31 - 1;

describe("in batches", () => {
  test("any words in any chunks have the same flag at the same token, and the same passes", async () => {
    await fc.assert(
      fc.asyncProperty(cases, fc.integer({ min: 1, max: 12 }), async ({ data, chunks }, tokens) => {
        const options = { policy: data, batch: { tokens, ms: LONG_MS } };
        const [batched, single] = [await read(chunks, options), await read(chunks, { policy: data })];
        expect(batched.out).toBe(single.out);
        expect(batched.outcome.violation).toEqual(single.outcome.violation);
        expect(batched.outcome.observed).toEqual(single.outcome.observed);
        expect(batched.outcome.decision).toEqual(single.outcome.decision);
        expect(batched.outcome.end).toBe(single.outcome.end);
      }),
      { numRuns: 300 },
    );
  });

  test("nothing is judged before so many tokens wait; the rest at the end", async () => {
    const words = Array.from({ length: 9 }, (_, i) => ` w${i}`);
    const { stream, out } = await read(words, { batch: { tokens: 4, ms: LONG_MS } });
    expect(out).toBe(words.join(""));
    expect(stream.stages).toHaveLength(9);
    expect(stream.judgedAfter).toEqual([
      " w0 w1 w2 w3",
      " w0 w1 w2 w3 w4 w5 w6",
      " w0 w1 w2 w3 w4 w5 w6 w7 w8",
    ]);
  });

  test("what has waited for long enough is judged although nothing more comes", async () => {
    const source = new TransformStream<string, string>();
    const writer = source.writable.getWriter();
    const moderated = new ModeratedStream(source.readable, () => new ScriptedStream(), {
      policy: policyOf(),
      batch: { tokens: 1000, ms: 1 },
    });
    void writer.write("one two");
    expect((await moderated.next()).value).toBe("one");
    void writer.write(" three");
    expect((await moderated.next()).value).toBe(" two");
    await moderated.return();
  });

  test("a word without end does not wait for more tokens than come of it", async () => {
    const letters = Array.from({ length: 40 }, () => "x".repeat(1000));
    const { out } = await read(letters, { batch: { tokens: 1024, ms: LONG_MS } });
    expect(out).toBe(letters.join(""));
  });

  test("what waits counts as behind, and for nobody any more once the reader has left", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const source = new TransformStream<string, string>();
    const stream = new ScriptedStream();
    const moderated = new ModeratedStream(source.readable, () => stream, {
      policy: policyOf(),
      batch: { tokens: 1000, ms: LONG_MS },
    });
    const reading = moderated.next();
    void source.writable.getWriter().write("one two");
    while (stream.stages.length === 0) await new Promise(setImmediate);
    for (let i = 0; i < 20; i++) await new Promise(setImmediate);
    expect(moderated.stats.lag).toBe("one two".length);
    expect(vi.getTimerCount()).toBe(1);
    await moderated.return();
    await reading;
    expect(vi.getTimerCount()).toBe(0);
  });

  test("ids wait as well", async () => {
    const stream = new ScriptedStream();
    const moderated = new ModeratedStream([1, 2, 3, 4, 5, 666, 666, 7], () => stream, {
      policy: policyOf(),
      batch: { tokens: 3, ms: LONG_MS },
    });
    const out: number[] = [];
    await expect(
      (async () => {
        for await (const ids of moderated) out.push(...(ids as number[]));
      })(),
    ).rejects.toMatchObject({ index: 6 });
    expect(out).toEqual([1, 2, 3, 4, 5]);
  });

  test("more text than may be under way is judged, however many tokens are wanted", async () => {
    const text = " word".repeat(10_000);
    const { out } = await read([text], { batch: { tokens: 1024, ms: LONG_MS } });
    expect(out).toBe(text);
  });

  test.each([
    [{ tokens: 0 }, "tokens"],
    [{ ms: 0.5 }, "ms"],
    [{ token: 4 }, "token"],
    ["16", "object"],
    [null, "object"],
  ])("%j is refused", async (batch, word) => {
    const { checkOptions } = await import("../../src/validation/options.js");
    const { GATE_OPTIONS } = await import("../../src/gate/gate-options.js");
    expect(() => checkOptions({ batch }, "guard.moderate", GATE_OPTIONS)).toThrow(word);
  });
});
