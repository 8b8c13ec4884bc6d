import { getEventListeners } from "node:events";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ClosedError, NumericError } from "../../src/errors.js";
import { type Attempt, continueTurn, INTROSPECTION } from "../../src/gate/attempt.js";
import type { Chunk } from "../../src/gate/chunks.js";
import { ModeratedStream, type ModerationOptions } from "../../src/gate/moderate.js";
import type { Source } from "../../src/gate/source.js";
import { ModerationViolation } from "../../src/gate/violation.js";
import type { PolicyData } from "../../src/moderation/policy.js";
import { ruleResponse } from "../../src/moderation/ruling.js";
import { policyOf, ScriptedStream } from "./scripted.js";

type Script = ConstructorParameters<typeof ScriptedStream>[0];
type Options = Partial<Omit<ModerationOptions, "policy">> & { policy?: PolicyData; script?: Script };

const unhandled = vi.fn();
const streams: ScriptedStream[] = [];
beforeEach(() => {
  ScriptedStream.open = 0;
  streams.length = 0;
  process.on("unhandledRejection", unhandled);
});
afterEach(async () => {
  await turns(20);
  process.off("unhandledRejection", unhandled);
  expect(unhandled).not.toHaveBeenCalled();
  expect(ScriptedStream.open).toBe(0);
});

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}

function regenerate<C extends Chunk>(source: Source<C>, { policy, script, ...options }: Options = {}) {
  const open = () => {
    streams.push(new ScriptedStream(script));
    return streams.at(-1) as ScriptedStream;
  };
  return new ModeratedStream(source, open, {
    policy: policyOf(policy),
    mode: "regenerate",
    buffer: 2,
    batch: { tokens: 1, ms: 1 },
    ...options,
  });
}

/** A model by script: what it says at each attempt, after what it said before. Remembers what it was asked. */
function model(answers: string[], { stuck = false }: { stuck?: boolean } = {}) {
  const asked: Attempt[] = [];
  const signals: AbortSignal[] = [];
  const source = (signal: AbortSignal, attempt: Attempt): AsyncIterable<string> => {
    asked.push(attempt);
    signals.push(signal);
    const words = (answers[asked.length - 1] ?? "").match(/\s*\S+/g) ?? [];
    return {
      async *[Symbol.asyncIterator]() {
        for (const word of words) {
          await new Promise(setImmediate);
          yield word;
        }
        // What is flagged is dropped while the model still speaks.
        if (words.at(-1) === " BAD") yield " more";
        if (stuck || words.at(-1) === " BAD") await new Promise(() => {});
      },
    };
  };
  return { source, asked, signals };
}

async function read(stream: AsyncIterable<string>): Promise<{ text: string; error: unknown }> {
  let text = "";
  try {
    for await (const chunk of stream) text += chunk;
    return { text, error: null };
  } catch (error) {
    return { text, error };
  }
}

test("at a flag the newest tokens are dropped, and the source goes on from what the reader has", async () => {
  const { source, asked, signals } = model(["one two three four BAD BAD", " drei vier fünf"]);
  const stream = regenerate(source);
  expect(await read(stream)).toEqual({ text: "one two three four drei vier fünf", error: null });
  expect(asked).toMatchObject([
    { attempt: 0, prefix: "", turn: "", intervention: null, violation: null },
    { attempt: 1, prefix: "one two three four", turn: "one two three four", intervention: "resample" },
  ]);
  expect(asked[1].violation).toBeInstanceOf(ModerationViolation);
  expect(signals[0].aborted).toBe(true);
  expect(signals[0].reason).toBe(asked[1].violation);
  const { end, violation, dropped, decision, stats } = await stream.done;
  expect({ end, violation, dropped }).toEqual({
    end: "complete",
    violation: null,
    dropped: [asked[1].violation],
  });
  expect(decision).toMatchObject({ risk: "Safe", tokens: 7 });
  expect(stats).toMatchObject({ regenerations: 1, released: 33 });
  expect(stats.received - stats.released).toBe(stats.dropped);
  expect(streams).toHaveLength(1);
  expect(streams[0].restarts).toBe(1);
});

describe("what it counts", () => {
  test("is what the model said and the guard judged, each once, however often it is read again", async () => {
    const answers = ["one two three four BAD BAD", " drei vier BAD BAD", " fünf"];
    const { source } = model(answers);
    const stream = regenerate(source);
    expect((await read(stream)).text).toBe("one two three four drei vier fünf");
    // What the model says after a flag is not judged.
    expect((await stream.done).stats).toMatchObject({
      received: answers.join("").length + 2 * " more".length,
      judged: answers.join("").length,
      tokens: 11,
    });
  });

  test("is of the first attempt where later ones have it again: how long the prompt took", async () => {
    const { source } = model(["one two BAD BAD", " drei BAD BAD", " vier"]);
    const stream = regenerate(source, { script: { promptAfter: turns(20) } });
    await stream.next();
    const { promptMs } = stream.stats;
    expect(promptMs).toBeGreaterThan(0);
    await read(stream);
    expect((await stream.done).stats).toMatchObject({ regenerations: 2, promptMs });
  });

  test("is of all attempts, of which the first alone kept its source waiting", async () => {
    let waited = 0;
    async function* source(_: AbortSignal, { attempt }: Attempt) {
      if (attempt > 0) {
        waited = stream.stats.waitedForGuardMs;
        yield " vier";
        return;
      }
      // The guard takes so much at once: it has passed when the rest, behind which the source waits, is flagged.
      yield `${"x".repeat(1024)} BAD BAD `;
      for (let i = 0; i < 30; i++) {
        await turns(1);
        yield "word ".repeat(200);
      }
      await new Promise(() => {});
    }
    const stream = regenerate(source, { script: { beforePush: () => turns(50) } });
    expect((await read(stream)).error).toBeNull();
    expect(waited).toBeGreaterThan(0);
    const { stats } = await stream.done;
    expect(stats.waitedForGuardMs).toBeGreaterThanOrEqual(waited);
    expect(stats.peakLag).toBeGreaterThanOrEqual(16_384);
  });
});

test("as many tokens as the buffer holds are not with the reader, however clear they are", async () => {
  const { source } = model(["a b c d e f g h"], { stuck: true });
  const stream = regenerate(source, { buffer: 3 });
  const chunks: string[] = [];
  const reading = (async () => {
    for await (const chunk of stream) chunks.push(chunk);
  })();
  for (let i = 0; i < 20; i++) await turns(20);
  // The last word may grow: it has not settled.
  expect(chunks.join("")).toBe("a b c d");
  await stream.return();
  await reading;
});

test("what is flagged again and again is stopped with the last violation, which says how often", async () => {
  const { source, asked, signals } = model(["so BAD BAD", " well BAD BAD", " oh BAD BAD", " fine"]);
  const { signal } = new AbortController();
  const stream = regenerate(source, { attempts: 2, signal });
  const { text, error } = await read(stream);
  expect(text).toBe("so well oh");
  expect(error).toBeInstanceOf(ModerationViolation);
  expect(error).toMatchObject({ regenerations: 2, span: { text: " BAD BAD" } });
  expect(JSON.parse(JSON.stringify(error))).toMatchObject({ regenerations: 2 });
  expect(asked).toHaveLength(3);
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true]);
  expect(await stream.done).toMatchObject({
    end: "flagged",
    violation: error,
    dropped: [{ regenerations: 0 }, { regenerations: 1 }],
    stats: { regenerations: 2 },
  });
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

test("a violation's span counts from the beginning of what the reader has", async () => {
  const { source } = model(["one two three BAD BAD", " BAD BAD"]);
  const { text, error } = await read(regenerate(source, { attempts: 1, buffer: 1 }));
  expect(text).toBe("one two three");
  const { span } = error as ModerationViolation;
  expect(span).toEqual({ start: text.length, end: text.length + 8, text: " BAD BAD" });
});

test("a replacement comes in the place of the last violation alone", async () => {
  const { source } = model(["one two three BAD BAD", " BAD BAD"]);
  const stream = regenerate(source, { attempts: 1, replacement: " No." });
  expect(await read(stream)).toEqual({ text: "one two three No.", error: null });
  expect(await stream.done).toMatchObject({ end: "flagged" });
});

test("a prompt that is flagged asks nobody again", async () => {
  const { source, asked } = model(["fine"]);
  const stream = regenerate(source, { promptFirst: true, script: { prompt: "Unsafe" } });
  expect((await read(stream)).error).toMatchObject({ part: "prompt" });
  expect(asked).toEqual([]);
});

describe("interventions", () => {
  test("a phrase is read by the model, judged, and given to the reader", async () => {
    const { source, asked } = model(["one two three BAD BAD", " that was wrong"]);
    const stream = regenerate(source, { intervention: { phrase: " … wait." } });
    expect((await read(stream)).text).toBe("one two three … wait. that was wrong");
    expect(asked[1]).toMatchObject({ prefix: "one two three … wait.", turn: "one two three … wait." });
  });

  test("a phrase that the policy flags uses up the attempts", async () => {
    const { source, asked } = model(["one BAD BAD"]);
    const stream = regenerate(source, { intervention: { phrase: " BAD BAD" }, attempts: 3 });
    expect((await read(stream)).error).toMatchObject({ regenerations: 3 });
    expect(asked.length).toBeGreaterThan(0);
  });

  test("an instruction is read by the model alone", async () => {
    const { source, asked } = model(["one two three BAD BAD", " That was wrong."]);
    const stream = regenerate(source, { intervention: "introspection" });
    expect((await read(stream)).text).toBe("one two three That was wrong.");
    expect(asked[1]).toMatchObject({
      prefix: "one two three",
      turn: `one two three\n\n${INTROSPECTION}`,
      intervention: "introspection",
    });
  });

  test("an instruction of one's own, before anything has come out", async () => {
    const { source, asked } = model(["BAD BAD", "Fine."]);
    const stream = regenerate(source, { intervention: { instruction: "(Kindly!)" } });
    expect((await read(stream)).text).toBe("Fine.");
    expect(asked[1]).toMatchObject({ prefix: "", turn: "(Kindly!)" });
  });
});

describe("what goes wrong", () => {
  test("a source that dies while it goes on is a failure; what it said before and was judged comes out", async () => {
    const { source } = model(["one two three BAD BAD"]);
    const stream = regenerate((signal, attempt) => {
      if (attempt.attempt === 0) return source(signal, attempt);
      return (async function* () {
        yield " drei";
        throw new Error("gone");
      })();
    });
    const { text, error } = await read(stream);
    expect(text).toBe("one two three drei");
    expect(error).toMatchObject({ message: "gone" });
    expect(await stream.done).toMatchObject({ end: "failed", stats: { regenerations: 1 } });
  });

  test("a source that cannot go on throws the violation it was given: the answer is stopped", async () => {
    for (const replacement of [undefined, " No."]) {
      const { source } = model(["one two three BAD BAD"]);
      const stream = regenerate(
        (signal, attempt) => {
          if (attempt.violation) throw attempt.violation;
          return source(signal, attempt);
        },
        { replacement },
      );
      const { text, error } = await read(stream);
      if (replacement) expect({ text, error }).toEqual({ text: "one two three No.", error: null });
      else expect({ text, error }).toEqual({ text: "one two three", error: expect.any(ModerationViolation) });
      expect(await stream.done).toMatchObject({
        end: "flagged",
        violation: { part: "response" },
        error: null,
      });
    }
  });

  test("a guard that fails in a later attempt ends it", async () => {
    let words = 0;
    const { source } = model(["one two three BAD BAD", " four five six"]);
    const beforePush = () => {
      if (++words > 8) throw new NumericError("LOGITS_NOT_FINITE", "scripted failure");
      return undefined;
    };
    const stream = regenerate(source, { script: { beforePush } });
    expect((await read(stream)).error).toBeInstanceOf(NumericError);
    expect(await stream.done).toMatchObject({ end: "failed" });
  });

  test("ids are refused, and so are a source that is no function and options of other modes", async () => {
    const stream = regenerate(() => [1, 2]);
    expect((await read(stream as never)).error).toMatchObject({ code: "CHUNK_NOT_TEXT" });
    const refused = expect.objectContaining({ code: "OPTION_INVALID" });
    expect(() => regenerate(["text"])).toThrow(refused);
    expect(() => regenerate(() => ["text"], { release: "judged" })).toThrow(refused);
    expect(() => regenerate(() => ["text"], { mode: "hold-back" })).toThrow(refused);
  });
});

describe("stopped from outside", () => {
  test("a reader who leaves between two attempts, or within one", async () => {
    for (const after of [0, 1, 2, 3, 5, 8, 13]) {
      const { source, signals } = model(["one two three BAD BAD", " drei vier BAD BAD", " x"], {
        stuck: true,
      });
      const stream = regenerate(source);
      stream.next().catch(() => {});
      await turns(after);
      await stream.return();
      expect(await stream.done).toMatchObject({ end: "cancelled" });
      await turns(2);
      expect(signals.every(({ aborted }) => aborted)).toBe(true);
    }
  });

  test("a signal that fires while nobody reads, after a flag", async () => {
    const { source, asked } = model(["one two three BAD BAD", " drei"]);
    const controller = new AbortController();
    const stream = regenerate(source, { signal: controller.signal });
    expect(await stream.next()).toEqual({ done: false, value: "one" });
    await turns(50);
    expect(stream.stats.regenerations).toBe(1);
    controller.abort(new Error("enough"));
    expect(await stream.done).toMatchObject({ end: "cancelled" });
    await expect(stream.next()).rejects.toBeInstanceOf(ClosedError);
    expect(asked.length).toBe(1);
  });

  test("two who read at once: each part goes to one of them, and both end", async () => {
    const { source } = model(["one two three BAD BAD", " drei vier"]);
    const stream = regenerate(source);
    const [a, b] = await Promise.all([read(stream), read(stream)]);
    expect([...(a.text + b.text)].sort().join("")).toBe([..."one two three drei vier"].sort().join(""));
  });
});

test("what is observed is noted once, however often it is read again", async () => {
  const onObserve = vi.fn();
  const policy: PolicyData = { categories: { PII: "observe" } };
  const { source } = model(["HMMPII HMMPII a b c BAD BAD", " d HMMPII HMMPII e BAD BAD", " f"]);
  const stream = regenerate(source, { policy, onObserve, script: { prompt: "Safe" } });
  expect((await read(stream)).text).toBe("HMMPII HMMPII a b c d HMMPII HMMPII e f");
  expect(onObserve).toHaveBeenCalledTimes(2);
  expect((await stream.done).observed).toHaveLength(2);
});

const word = fc.constantFrom(
  " fine",
  " BAD",
  " HMM",
  " xBADx",
  "so",
  "\n",
  " e\u0301",
  " 👍",
  " BADPII",
  "  ",
);
const answer = fc.array(word, { maxLength: 14 }).map((words) => words.join(""));
const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 4 });
const data: fc.Arbitrary<PolicyData> = fc.record({
  reading: fc.constantFrom("strict" as const, "loose" as const),
  debounce: fc.integer({ min: 1, max: 3 }),
  categories: fc.constantFrom<PolicyData["categories"]>({}, { PII: "ignore" }, { PII: "observe" }),
});
const ending = fc.constantFrom("none", "none", "dies", "reader", "signal") as fc.Arbitrary<
  "none" | "dies" | "reader" | "signal"
>;

test("any texts, chunks, buffers and attempts: what comes out is the attempts' text without what was dropped, and clear", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        answers: fc.array(answer, { minLength: 1, maxLength: 5 }),
        sizes,
        policy: data,
        buffer: fc.integer({ min: 1, max: 6 }),
        attempts: fc.integer({ min: 1, max: 4 }),
        batch: fc.integer({ min: 1, max: 4 }),
        phrase: fc.constantFrom("", " wait", "… "),
        fault: ending,
        at: fc.nat(30),
      }),
      async ({ answers, sizes, policy, buffer, attempts, batch, phrase, fault, at }) => {
        const controller = new AbortController();
        const given: { attempt: Attempt; text: string; returned: boolean; signal: AbortSignal }[] = [];
        const source = (signal: AbortSignal, attempt: Attempt) => {
          const own = { attempt, text: "", returned: false, signal };
          given.push(own);
          const whole = answers[given.length - 1] ?? "";
          let offset = 0;
          return {
            [Symbol.asyncIterator]() {
              return this;
            },
            async next() {
              await new Promise(setImmediate);
              if (fault === "dies" && given.length - 1 === at % 5 && offset > 0) {
                own.returned = true;
                throw new Error("gone");
              }
              if (offset >= whole.length) {
                own.returned = true;
                return { done: true as const, value: undefined };
              }
              const value = whole.slice(offset, offset + sizes[offset % sizes.length]);
              offset += value.length;
              own.text += value;
              return { done: false as const, value };
            },
            async return() {
              own.returned = true;
              return { done: true as const, value: undefined };
            },
          };
        };
        const stream = regenerate(source, {
          ...{ policy, buffer, attempts, batch: { tokens: batch, ms: 1 }, signal: controller.signal },
          ...(phrase !== "" && { intervention: { phrase } }),
        });
        let text = "";
        let error: unknown = null;
        try {
          for (let i = 0; ; i++) {
            if (fault === "signal" && i === at % 7) controller.abort();
            if (fault === "reader" && i === at % 7) await stream.return();
            const { done, value } = await stream.next();
            if (done) break;
            text += value;
          }
        } catch (thrown) {
          error = thrown;
        }
        const { end, violation, dropped, stats } = await stream.done;
        await turns(3);
        // Each attempt goes on from exactly what came out so far, and at the end nothing is lost or doubled.
        const last = given.at(-1);
        for (const { attempt, returned, signal } of given) {
          // A phrase that was not released yet is dropped with what came after it.
          const had = attempt.violation ? attempt.prefix.slice(0, attempt.prefix.length - phrase.length) : "";
          expect(text.startsWith(had)).toBe(true);
          expect(had).not.toMatch(/\s$/);
          expect(returned || signal.aborted || error !== null).toBe(true);
        }
        for (const { signal, returned } of given.slice(0, -1)) expect(signal.aborted || returned).toBe(true);
        if (last) expect(`${last.attempt.prefix}${last.text}`.startsWith(text)).toBe(true);
        if (end === "complete" && last) expect(text).toBe(`${last.attempt.prefix}${last.text}`);
        // What came out is clear when it is judged as a whole.
        const words = text.match(/\s*\S+|\s+$/g) ?? [];
        const verdicts = words.map((own, index) => ScriptedStream.verdict(index, own.normalize("NFC")));
        if (end === "complete") expect(ruleResponse(verdicts, policyOf(policy)).violation).toBeNull();
        else if (end === "flagged") {
          // The last word may have been longer when it was judged.
          expect(ruleResponse(verdicts.slice(0, -1), policyOf(policy)).violation).toBeNull();
          expect(violation).toMatchObject({ regenerations: attempts });
          expect(error).toBe(violation);
        }
        expect(dropped.length).toBeLessThanOrEqual(attempts);
        expect(given.length).toBeLessThanOrEqual(dropped.length + 1);
        expect(stats.regenerations).toBe(dropped.length);
        expect(end).toBe(
          error instanceof ModerationViolation
            ? "flagged"
            : error === null
              ? end
              : error instanceof ClosedError
                ? "cancelled"
                : "failed",
        );
        expect(ScriptedStream.open).toBe(0);
      },
    ),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 300), timeout: 30_000 },
  );
});

describe("a server that goes on with a turn", () => {
  const messages = [{ role: "user", content: "Hi" }];
  const assistant = { role: "assistant", content: "I am" };

  test("is told so in its own way", () => {
    expect(continueTurn("vllm", messages, { turn: "I am" })).toEqual({
      messages: [...messages, assistant],
      continue_final_message: true,
      add_generation_prompt: false,
    });
    expect(continueTurn("llama.cpp", messages, { turn: "I am" })).toEqual({
      messages: [...messages, assistant],
    });
    expect(continueTurn("anthropic", messages, { turn: "I am \n" })).toEqual({
      messages: [...messages, assistant],
    });
  });

  test("is asked as ever where nothing has come out", () => {
    expect(continueTurn("vllm", messages, { turn: "" })).toEqual({ messages });
  });

  test("is one of those that are known", () => {
    expect(() => continueTurn("ollama" as never, messages, { turn: "I am" })).toThrow(
      expect.objectContaining({ code: "OPTION_INVALID" }),
    );
  });
});
