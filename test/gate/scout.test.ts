import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Gate } from "../../src/gate/gate.js";
import type { Mode } from "../../src/gate/gate-options.js";
import type { Part } from "../../src/gate/parts.js";
import type { ScoutOptions } from "../../src/gate/scout.js";
import { begins, cases, read } from "./pacing.js";
import { policyOf, ScriptedStream } from "./scripted.js";

beforeEach(() => {
  ScriptedStream.open = 0;
});
afterEach(() => expect(ScriptedStream.open).toBe(0));

const LONG_MS = 2 ** 31 - 1;
const NEVER = { tokens: 1024, ms: LONG_MS };

/** A scout that takes certain words for unsafe. */
function scout(suspects: (word: string) => boolean, script: object = {}): ScoutOptions {
  return {
    open: async () =>
      new ScriptedStream({ riskOf: (word) => (suspects(word) ? "Unsafe" : "Safe"), ...script }),
    decoder: () => (ids) => ids.map((id) => ` ${id}`).join(""),
  };
}
const harmful = (word: string) => /BAD|HMM/.test(word);
const blind = () => false;

describe("a scout", () => {
  test("lets the guard judge in batches, and at once where it suspects something", async () => {
    const words = [" a", " b", " c", " SUS", " d", " e"];
    const { stream, outcome } = await read(
      words,
      { batch: NEVER },
      {},
      scout((word) => word.includes("SUS")),
    );
    expect(stream.judgedAfter).toEqual([" a b c SUS", " a b c SUS d e"]);
    expect(outcome.stats.suspicions).toBe(1);
    expect(outcome.scoutError).toBeNull();
  });

  test("is asked no more than whether something is to be judged: the guard alone rules", async () => {
    const { out, error, outcome } = await read(
      ["fine SUS", " and on"],
      {},
      {},
      scout((word) => word.includes("SUS")),
    );
    expect(error).toBeNull();
    expect(out).toBe("fine SUS and on");
    expect(outcome.end).toBe("complete");
  });

  test("that fails makes everything suspicious, and is told of", async () => {
    const failing = scout(blind, { failAt: 2 });
    const words = [" a", " b", " c", " d"];
    const { stream, out, outcome } = await read(words, { mode: "scout-first", batch: NEVER }, {}, failing);
    expect(out).toBe(words.join(""));
    expect(stream.judgedAfter.slice(0, 3)).toEqual([" a b", " a b c", " a b c d"]);
    expect(outcome.scoutError).toMatchObject({ code: "LOGITS_NOT_FINITE" });
  });

  test("that cannot be had does so too", async () => {
    const none: ScoutOptions = { ...scout(blind), open: () => Promise.reject(new Error("no model")) };
    const { stream, outcome } = await read([" a", " b"], { batch: NEVER }, {}, none);
    expect(stream.judgedAfter.slice(0, 2)).toEqual([" a", " a b"]);
    expect(outcome.scoutError).toMatchObject({ message: "no model" });
  });

  test("reads ids as the text that they stand for", async () => {
    async function* parts(): AsyncGenerator<Part<never>> {
      for (const id of [1, 2, 666, 4]) yield { kind: "ids", ids: [id] };
    }
    const gate = new Gate<never>(
      parts(),
      () => new ScriptedStream(),
      { policy: policyOf(), batch: NEVER },
      { scout: scout((word) => word.includes("666")) },
    );
    const out: number[] = [];
    for await (const part of gate) if (part.kind === "ids") out.push(...part.ids);
    expect(out).toEqual([1, 2, 666, 4]);
    expect((await gate.done).stats.suspicions).toBe(1);
  });

  test.each<Mode>(["hold-back", "scout-first"])("%s: is closed with the gate that is left", async (mode) => {
    const gate = new Gate<never>(
      (async function* (): AsyncGenerator<Part<never>> {
        yield { kind: "text", text: "one two" };
        await new Promise(() => {});
      })(),
      () => new ScriptedStream(),
      { policy: policyOf(), mode, batch: { tokens: 1 } },
      { scout: scout(blind) },
    );
    await gate.next();
    await gate.return();
    await new Promise(setImmediate);
  });

  test("must be there for scout-first", () => {
    const open = () => new ScriptedStream();
    expect(() => new Gate([], open, { policy: policyOf(), mode: "scout-first" })).toThrow("scout: true");
  });
});

describe("held back, with a scout that sees, misses or suspects what it likes", () => {
  test("the same passes and the same flag stops it as without one", async () => {
    const kinds = fc.constantFrom(harmful, blind, (word: string) => word.length % 2 === 0);
    await fc.assert(
      fc.asyncProperty(
        cases,
        kinds,
        fc.integer({ min: 1, max: 12 }),
        async ({ data, chunks }, suspects, tokens) => {
          const options = { policy: data, batch: { tokens, ms: LONG_MS } };
          const with_ = await read(chunks, options, {}, scout(suspects));
          const without = await read(chunks, { policy: data });
          expect(with_.out).toBe(without.out);
          expect(with_.outcome.violation).toEqual(without.outcome.violation);
          expect(with_.outcome.decision).toEqual(without.outcome.decision);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("scout-first", () => {
  test("text passes on the scout's word, stops at its suspicion, and goes on when the guard has ruled", async () => {
    let rule!: () => void;
    const ruled = new Promise<void>((resolve) => {
      rule = resolve;
    });
    const source = new TransformStream<Part<never>, Part<never>>();
    const writer = source.writable.getWriter();
    const stream = new ScriptedStream({ beforePush: () => ruled });
    const gate = new Gate<never>(
      source.readable,
      () => stream,
      { policy: policyOf(), mode: "scout-first", batch: NEVER },
      { scout: scout((word) => word.includes("SUS")) },
    );
    const out: string[] = [];
    const reading = (async () => {
      for await (const part of gate) if (part.kind === "text") out.push(part.text);
    })();
    const give = async (text: string) => {
      await writer.write({ kind: "text", text });
      for (let i = 0; i < 20; i++) await new Promise(setImmediate);
      return out.join("");
    };
    expect(await give("one")).toBe("one");
    expect(await give(" two")).toBe("one two");
    expect(stream.judgedAfter).toEqual([]);
    expect(await give(" SUS")).toBe("one two");
    expect(await give(" three")).toBe("one two");
    rule();
    expect(await give(" four")).toBe("one two SUS three four");
    const judged = stream.judgedAfter.length;
    expect(await give(" five")).toBe("one two SUS three four five");
    expect(stream.judgedAfter).toHaveLength(judged);
    await writer.close();
    await reading;
  });

  test("where the scout suspects all that the guard flags, no more is seen of a flag than its word's beginning", async () => {
    await fc.assert(
      fc.asyncProperty(
        cases,
        fc.integer({ min: 1, max: 12 }),
        async ({ data, text, chunks, violation, tokens }, k) => {
          const options = { policy: data, mode: "scout-first" as const, batch: { tokens: k, ms: LONG_MS } };
          const { out, outcome } = await read(chunks, options, {}, scout(harmful));
          expect(outcome.violation?.index).toBe(violation?.index);
          if (!violation) expect(out).toBe(text);
          else {
            const passed = tokens.slice(0, violation.from).join("");
            expect(text.startsWith(out)).toBe(true);
            if (out.length > passed.length)
              expect(begins(out.slice(passed.length), tokens[violation.from])).toBe(true);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test("what the scout misses is flagged at the same token, when its batch is judged; nothing is lost where nothing is", async () => {
    await fc.assert(
      fc.asyncProperty(
        cases,
        fc.integer({ min: 1, max: 12 }),
        async ({ data, text, chunks, violation }, k) => {
          const options = { policy: data, mode: "scout-first" as const, batch: { tokens: k, ms: LONG_MS } };
          const { out, outcome } = await read(chunks, options, {}, scout(blind));
          expect(outcome.violation?.index).toBe(violation?.index);
          expect(text.startsWith(out)).toBe(true);
          if (!violation) expect(out).toBe(text);
        },
      ),
      { numRuns: 300 },
    );
  });
});
