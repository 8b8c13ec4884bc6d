import { getEventListeners } from "node:events";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ClosedError, ContextLengthError, GuardError, InputError, QueueFullError } from "../../src/errors.js";
import type { Chunk } from "../../src/gate/chunks.js";
import { Gate } from "../../src/gate/gate.js";
import type { GateOptions, Mode } from "../../src/gate/gate-options.js";
import { ModeratedStream, type ModerationOptions } from "../../src/gate/moderate.js";
import type { Part } from "../../src/gate/parts.js";
import type { Source } from "../../src/gate/source.js";
import { ModerationViolation } from "../../src/gate/violation.js";
import type { PolicyData } from "../../src/moderation/policy.js";
import { ruleResponse } from "../../src/moderation/ruling.js";
import { policyOf, ScriptedStream } from "./scripted.js";

type Script = ConstructorParameters<typeof ScriptedStream>[0];
type Options = Partial<Omit<ModerationOptions, "policy">> & { policy?: PolicyData };

const unhandled = vi.fn();
beforeEach(() => {
  // What one test left behind is that test's failure alone.
  ScriptedStream.open = 0;
  process.on("unhandledRejection", unhandled);
});
afterEach(async () => {
  await tick();
  process.off("unhandledRejection", unhandled);
  expect(unhandled).not.toHaveBeenCalled();
  expect(ScriptedStream.open).toBe(0);
});

function moderate<C extends Chunk>(
  source: Source<C>,
  { policy, ...options }: Options = {},
  script: Script = {},
) {
  return new ModeratedStream(source, () => new ScriptedStream(script), {
    policy: policyOf(policy),
    ...options,
  });
}

/** Enough turns of the event loop for whatever can happen: on a busy machine, milliseconds alone may bring one. */
async function tick(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
  await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Chunks, one a turn of the event loop. Remembers how far it came and whether it was told to stop. */
function source<C>(chunks: C[], { stuckAt = Infinity }: { stuckAt?: number } = {}) {
  let given = 0;
  const record = { given: () => given, returned: false };
  const iterator: AsyncIterableIterator<C> = {
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      if (given === stuckAt) return new Promise<never>(() => {});
      await new Promise(setImmediate);
      return given < chunks.length
        ? { done: false, value: chunks[given++] }
        : { done: true, value: undefined };
    },
    async return() {
      record.returned = true;
      return { done: true, value: undefined };
    },
  };
  return { chunks: iterator, ...record, record };
}

/** A number once it has stopped growing. */
async function standstill(count: () => number): Promise<number> {
  let last = -1;
  while (last !== count()) {
    last = count();
    await tick();
  }
  return last;
}

async function collect<C>(stream: AsyncIterable<C>): Promise<{ out: C[]; error: unknown }> {
  const out: C[] = [];
  try {
    for await (const chunk of stream) out.push(chunk);
    return { out, error: null };
  } catch (error) {
    return { out, error };
  }
}

describe.each<Mode>(["hold-back", "stream-first"])("%s", (mode) => {
  test("a clean stream comes out as it went in", async () => {
    const stream = moderate(["Hel", "lo w", "orld", ", all", " is w", "ell.", " \n"], { mode });
    const { out, error } = await collect(stream);
    expect(error).toBeNull();
    expect(out.join("")).toBe("Hello world, all is well. \n");
    expect(await stream.done).toMatchObject({
      end: "complete",
      violation: null,
      error: null,
      decision: { risk: "Safe" },
    });
    expect(stream.stats).toMatchObject({ received: 27, judged: 27, released: 27, lag: 0 });
  });

  test("an empty one too", async () => {
    const stream = moderate([], { mode });
    expect(await collect(stream)).toEqual({ out: [], error: null });
    expect(await stream.done).toMatchObject({ end: "complete", decision: null });
  });

  test("at a flag the outcome counts what was judged, and what its reader gets", async () => {
    const stream = moderate(["all ", "good ", "so BAD1 ", "BAD2 and"], { mode });
    const { out } = await collect(stream);
    const { stats } = await stream.done;
    expect(stats).toMatchObject({ judged: 21, tokens: 5 });
    expect(stats.released).toBe(out.join("").length);
    expect(stats.released).toBeGreaterThan(0);
  });

  test("a flag ends it with a typed violation, and stops the source", async () => {
    const from = source(["all ", "good ", "so BAD1 ", "BAD2 and", " more", " more"], { stuckAt: 6 });
    const signals: AbortSignal[] = [];
    const stream = moderate(
      (signal) => {
        signals.push(signal);
        return from.chunks;
      },
      { mode },
    );
    const { out, error } = await collect(stream);
    expect(error).toBeInstanceOf(ModerationViolation);
    expect(error).toMatchObject({
      code: "MODERATION_VIOLATION",
      part: "response",
      risk: "Unsafe",
      category: "Violent",
      index: 4,
      rule: { reading: "strict", debounce: 2, threshold: null },
      span: { start: 11, end: 21, text: " BAD1 BAD2" },
    });
    expect(JSON.stringify(error)).not.toContain("BAD");
    expect(from.record.returned).toBe(true);
    expect(signals[0].aborted).toBe(true);
    if (mode === "hold-back") expect(out.join("")).toBe("all good so");
    else expect("all good so BAD1 BAD2 and more more").toContain(out.join(""));
    expect(await stream.done).toMatchObject({ end: "flagged", violation: error, error: null });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  test("a violation may be replaced", async () => {
    const { out, error } = await collect(moderate(["ok BAD BAD"], { mode, replacement: " […]" }));
    expect(error).toBeNull();
    expect(out.at(-1)).toBe(" […]");
    if (mode === "hold-back") expect(out.join("")).toBe("ok […]");
  });

  test("nothing comes out before the prompt has passed", async () => {
    let pass!: (value: unknown) => void;
    const promptAfter = new Promise((resolve) => {
      pass = resolve;
    });
    const from = source(["one ", "two ", "three "]);
    const stream = moderate(from.chunks, { mode }, { promptAfter });
    const first = vi.fn();
    const next = stream.next().then(first);
    await tick();
    expect(first).not.toHaveBeenCalled();
    // The source was read meanwhile.
    expect(from.given()).toBe(3);
    pass(null);
    await next;
    expect(first).toHaveBeenCalled();
    expect((await collect(stream)).error).toBeNull();
  });

  test("a blocked prompt ends it", async () => {
    const from = source(["one ", "two "], { stuckAt: 2 });
    const stream = moderate(from.chunks, { mode }, { prompt: "Unsafe", promptAfter: tick() });
    const { out, error } = await collect(stream);
    expect(out).toEqual([]);
    expect(error).toMatchObject({ part: "prompt", risk: "Unsafe", span: null });
    expect(from.record.returned).toBe(true);
  });

  test("with promptFirst the source is not asked before, and not at all where the prompt is blocked", async () => {
    const ask = vi.fn(() => ["text"]);
    const blocked = moderate(ask, { mode, promptFirst: true }, { prompt: "Unsafe", promptAfter: tick() });
    expect((await collect(blocked)).error).toBeInstanceOf(ModerationViolation);
    expect(ask).not.toHaveBeenCalled();
    const passed = moderate(ask, { mode, promptFirst: true }, { promptAfter: tick() });
    expect((await collect(passed)).out.join("")).toBe("text");
    expect(ask).toHaveBeenCalledOnce();
  });

  test("when the guard fails, so does the stream", async () => {
    const from = source(["one two three four", " five", " six"], { stuckAt: 3 });
    const stream = moderate(from.chunks, { mode }, { failAt: 5 });
    const { error } = await collect(stream);
    expect(error).toMatchObject({ message: "scripted failure" });
    expect(from.record.returned).toBe(true);
    expect(await stream.done).toMatchObject({ end: "failed", error });
  });

  test("unless the policy asks to fail open: then all comes out, and the failure is told", async () => {
    const chunks = ["one two", " three four", " five", " six", " BAD BAD"];
    const stream = moderate(source(chunks).chunks, { mode, policy: { failOpen: true } }, { failAt: 4 });
    const { out, error } = await collect(stream);
    expect(error).toBeNull();
    expect(out.join("")).toBe(chunks.join(""));
    expect(await stream.done).toMatchObject({
      end: "complete",
      error: { message: "scripted failure" },
      failedOpen: true,
      decision: null,
    });
  });

  test("text that no token stands for fails the stream: nobody has judged it", async () => {
    class Forgetful extends ScriptedStream {
      override pushText(text: string) {
        return super.pushText(text.replace(" lost", ""));
      }
    }
    const stream = new ModeratedStream(["one two", " lost"], () => new Forgetful(), {
      policy: policyOf(),
      mode,
    });
    const { out, error } = await collect(stream);
    expect(error).toMatchObject({ code: "INTERNAL" });
    if (mode === "hold-back") expect(out.join("")).not.toContain("lost");
    expect(await stream.done).toMatchObject({ end: "failed" });
  });

  test("failing open is told once, with what the guard failed of", async () => {
    const onFailure = vi.fn();
    const options = { mode, onFailure, policy: { failOpen: true } };
    await collect(moderate(["a b c d", " e f"], options, { failAt: 2 }));
    expect(onFailure.mock.calls).toMatchObject([[{ code: "LOGITS_NOT_FINITE" }]]);
    const closed = moderate(["a b c d", " e f"], { mode, onFailure }, { failAt: 2 });
    expect((await collect(closed)).error).not.toBeNull();
    expect(await closed.done).toMatchObject({ failedOpen: false });
    expect(onFailure).toHaveBeenCalledTimes(1);
  });

  test("who fails open holds no slot while the source goes on", async () => {
    const from = source(["one ", "two ", "three "], { stuckAt: 3 });
    const stream = moderate(from.chunks, { mode, policy: { failOpen: true } }, { failAt: 2 });
    const collected = collect(stream);
    await standstill(from.given);
    expect(ScriptedStream.open).toBe(0);
    await stream.return();
    expect((await collected).out.join("")).toBe("one two three ");
  });

  test("who throws when told of a failure keeps it closed", async () => {
    const onFailure = () => {
      throw new Error("not here");
    };
    const stream = moderate(
      source(["a b", " c d"]).chunks,
      { mode, onFailure, policy: { failOpen: true } },
      { failAt: 4 },
    );
    expect(await collect(stream)).toMatchObject({ error: { message: "not here" } });
    expect(await stream.done).toMatchObject({ end: "failed", failedOpen: false });
  });

  test("failing open cuts no character in two, wherever the guard fails and the source cuts", async () => {
    const text = "👍🏽 über 𝒜 日本 🇳🇴 x";
    for (let failAt = 1; failAt < 8; failAt++) {
      for (const size of [1, 2, 3, 100]) {
        const chunks = text.match(new RegExp(`.{1,${size}}`, "gs")) as string[];
        const stream = moderate(source(chunks).chunks, { mode, policy: { failOpen: true } }, { failAt });
        const { out } = await collect(stream);
        expect(out.map((part) => Buffer.from(part).toString()).join("")).toBe(text);
      }
    }
  });

  test("a long text fails open in whole characters too", async () => {
    const text = `x${"👍".repeat(3000)}`;
    const script = { promptAfter: Promise.reject(new QueueFullError("QUEUE_FULL", "full")) };
    const { out } = await collect(moderate([text], { mode, policy: { failOpen: true } }, script));
    expect(out.map((part) => Buffer.from(part).toString()).join("")).toBe(text);
  });

  test("half a character at the source's end comes out as it came", async () => {
    const stream = moderate(["ab\ud83d"], { mode });
    expect((await collect(stream)).out.join("")).toBe("ab\ud83d");
  });

  test("halves of characters that never find their other half keep their places", async () => {
    const options = { mode, policy: { failOpen: true } };
    const script = { promptAfter: Promise.reject(new QueueFullError("QUEUE_FULL", "full")) };
    const stream = moderate(["\ud83d", "a\ud83d", "\ud83d", "b"], options, script);
    expect((await collect(stream)).out.join("")).toBe("\ud83da\ud83d\ud83db");
  });

  test("failing open also covers a prompt that cannot be judged, with promptFirst too", async () => {
    for (const promptFirst of [false, true]) {
      const script = { promptAfter: Promise.reject(new QueueFullError("QUEUE_FULL", "full")) };
      const { out, error } = await collect(
        moderate(["a b", " c"], { mode, promptFirst, policy: { failOpen: true } }, script),
      );
      expect(error).toBeNull();
      expect(out.join("")).toBe("a b c");
    }
  });

  test("a caller's mistake is never passed open", async () => {
    const open = () => {
      throw new InputError("MESSAGES_INVALID", "no");
    };
    const stream = new ModeratedStream(["text"], open, { mode, policy: policyOf({ failOpen: true }) });
    expect(await collect(stream)).toMatchObject({ out: [], error: { code: "MESSAGES_INVALID" } });
  });

  test("nor is a prompt that is too long: its length is whoever wrote it's choice", async () => {
    const open = () => {
      throw new ContextLengthError("PROMPT_TOO_LONG", "no");
    };
    const stream = new ModeratedStream(["text"], open, { mode, policy: policyOf({ failOpen: true }) });
    expect(await collect(stream)).toMatchObject({ out: [], error: { code: "PROMPT_TOO_LONG" } });
  });

  test("nor what a model can bring about, nor what nobody has thought of", async () => {
    const policy = { failOpen: true };
    const open = () => new ScriptedStream({ promptAfter: Promise.reject(new TypeError("a bug")) });
    const bug = new ModeratedStream(["text"], open, { mode, policy: policyOf(policy) });
    expect(await collect(bug)).toMatchObject({ out: [], error: { message: "a bug" } });
    // A provider that sends nothing but empty deltas behind a word whose verdict is open.
    const parts: Part<number>[] = [{ kind: "text", text: "BAD" }];
    for (let i = 0; i < 9000; i++) parts.push({ kind: "item", item: i });
    const gate = new Gate<number>(parts, () => new ScriptedStream(), { mode, policy: policyOf(policy) });
    const { error } = await collect(gate);
    expect(error).toMatchObject({ code: "HELD_TOO_MUCH" });
    expect(await gate.done).toMatchObject({ end: "failed", failedOpen: false });
  });

  test("a guard that closes the stream ends it at once, also while its source is silent", async () => {
    const { signal } = new AbortController();
    const judge = new ScriptedStream();
    const from = source(["one ", "two "], { stuckAt: 2 });
    const stream = new ModeratedStream(from.chunks, () => judge, { mode, signal, policy: policyOf() });
    const reading = collect(stream);
    await standstill(from.given);
    judge.close(new ClosedError("GUARD_CLOSED", "closed"));
    expect(await reading).toMatchObject({ error: { code: "GUARD_CLOSED" } });
    expect(from.record.returned).toBe(true);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  test("a source may be a text; what is none is named", async () => {
    expect((await collect(moderate("some text", { mode }))).out.join("")).toBe("some text");
    const { error } = await collect(moderate(null as never, { mode }));
    expect(error).toMatchObject({ code: "SOURCE_INVALID" });
  });

  test("an error of the source comes after the text before it", async () => {
    async function* failing() {
      yield "all is ";
      yield "well so far";
      throw new Error("connection lost");
    }
    const { out, error } = await collect(moderate(failing(), { mode }));
    expect(out.join("")).toBe("all is well so far");
    expect(error).toEqual(new Error("connection lost"));
  });

  test("a source that cannot even be asked is an error", async () => {
    const refused = () => Promise.reject(new Error("401"));
    expect((await collect(moderate<string>(refused, { mode }))).error).toEqual(new Error("401"));
  });

  test("a reader who leaves stops the source", async () => {
    const from = source(["one ", "two ", "three ", "four "], { stuckAt: 4 });
    const stream = moderate(from.chunks, { mode });
    for await (const _ of stream) break;
    expect(from.record.returned).toBe(true);
    expect(await stream.done).toMatchObject({ end: "cancelled" });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  test("also one who leaves while everything waits", async () => {
    const from = source<string>([], { stuckAt: 0 });
    const stream = moderate(from.chunks, { mode });
    const waiting = stream.next();
    await tick();
    await stream.return();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(from.record.returned).toBe(true);
  });

  test("and one who leaves while the source is being asked", async () => {
    const from = source(["late"]);
    let answer!: () => void;
    const stream = moderate<string>(
      () =>
        new Promise((resolve) => {
          answer = () => resolve(from.chunks);
        }),
      { mode },
    );
    void stream.next();
    await tick();
    await stream.return();
    answer();
    await tick();
    expect(from.record.returned).toBe(true);
    expect(from.given()).toBe(0);
  });

  test("a signal stops both sides", async () => {
    const controller = new AbortController();
    const from = source(["one ", "two "], { stuckAt: 2 });
    const stream = moderate(from.chunks, { mode, signal: controller.signal });
    const collected = collect(stream);
    await tick();
    controller.abort(new Error("enough"));
    expect((await collected).error).toMatchObject({ code: "STREAM_ABORTED", cause: new Error("enough") });
    expect((await collected).error).toBeInstanceOf(ClosedError);
    expect(from.record.returned).toBe(true);
  });

  test("what had passed by then and was not read is not read any more", async () => {
    for (const stop of ["signal", "reader"]) {
      const controller = new AbortController();
      const stream = moderate(source(["one ", "two ", "three "], { stuckAt: 3 }).chunks, {
        mode,
        signal: controller.signal,
      });
      await stream.next();
      await tick();
      if (stop === "signal") controller.abort();
      else await stream.return();
      const { out, error } = await collect(stream);
      expect(out).toEqual([]);
      expect(error).toEqual(stop === "signal" ? expect.objectContaining({ code: "STREAM_ABORTED" }) : null);
    }
  });

  test("a signal that has fired already starts nothing", async () => {
    const ask = vi.fn(() => ["text"]);
    const { error } = await collect(moderate(ask, { mode, signal: AbortSignal.abort() }));
    expect(error).toMatchObject({ code: "STREAM_ABORTED" });
    expect(ask).not.toHaveBeenCalled();
  });

  test("a slow reader makes the source wait", async () => {
    const from = source(Array.from({ length: 2000 }, () => "some words here. ".repeat(10)));
    const stream = moderate(from.chunks, { mode });
    await stream.next();
    const given = await standstill(from.given);
    expect(given * 170).toBeLessThan(60_000);
    const { out, error } = await collect(stream);
    expect(error).toBeNull();
    expect(out.join("").length).toBeGreaterThan(330_000);
    expect(stream.stats.waitedForGuardMs).toBe(0);
  });

  test("a slow guard makes the source wait, and shows", async () => {
    let go!: () => void;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const from = source(Array.from({ length: 1000 }, () => "some words here. ".repeat(10)));
    const stream = moderate(from.chunks, { mode }, { beforePush: () => gate });
    const collected = collect(stream);
    expect(await standstill(from.given)).toBeLessThan(110);
    expect(stream.stats.lag).toBeGreaterThanOrEqual(16_384);
    go();
    expect((await collected).error).toBeNull();
    const { stats } = await stream.done;
    expect(stats.judged).toBe(170_000);
    expect(stats.lag).toBe(0);
    expect(stats.peakLag).toBeLessThan(17_000);
    expect(stats.waitedForGuardMs).toBeGreaterThan(0);
  });

  test("what is observed is told and passes", async () => {
    const onObserve = vi.fn();
    const stream = moderate(["so BAD.PII BAD.PII it is"], {
      mode,
      onObserve,
      policy: { categories: { PII: "observe" } },
    });
    const { out, error } = await collect(stream);
    expect(error).toBeNull();
    expect(out.join("")).toBe("so BAD.PII BAD.PII it is");
    expect(onObserve).toHaveBeenCalledOnce();
    expect(onObserve.mock.calls[0][0]).toMatchObject({
      action: "observe",
      category: "PII",
      index: 2,
      from: 1,
    });
    expect((await stream.done).observed).toHaveLength(1);
  });

  test("an observer that throws ends the stream with its error", async () => {
    const onObserve = () => {
      throw new Error("observer");
    };
    const stream = moderate(["BAD BAD x"], { mode, onObserve, policy: { action: "observe" } });
    expect((await collect(stream)).error).toEqual(new Error("observer"));
  });

  test("never read, it holds nothing; left unread, it takes a call", async () => {
    moderate(["text"], { mode });
    expect(ScriptedStream.open).toBe(0);
    const stream = moderate(["text"], { mode });
    await stream.next();
    await stream.return();
  });
});

describe("stream-first", () => {
  test("what nobody has read when the flag falls is not read any more", async () => {
    const stream = moderate(["so far ", "BAD ", "BAD ", "and on"], { mode: "stream-first" });
    expect(await stream.next()).toEqual({ done: false, value: "so far " });
    await stream.done;
    await expect(stream.next()).rejects.toBeInstanceOf(ModerationViolation);
  });

  test("nor is it when the guard fails", async () => {
    const stream = moderate(["so far ", "one ", "two "], { mode: "stream-first" }, { failAt: 2 });
    expect(await stream.next()).toEqual({ done: false, value: "so far " });
    await stream.done;
    await expect(stream.next()).rejects.toMatchObject({ message: "scripted failure" });
  });
});

describe("as a Node stream", () => {
  const sink = (onChunk: (text: string, sink: Writable) => void = () => {}) => {
    let text = "";
    const writable = new Writable({
      write(chunk, _, done) {
        text += chunk;
        onChunk(text, writable);
        done();
      },
    });
    return { writable, text: () => text };
  };

  test("all that passes comes through a pipeline", async () => {
    const { writable, text } = sink();
    await pipeline(moderate(["Hel", "lo w", "orld \ud83d", "\udc4d."]).toReadable(), writable);
    expect(text()).toBe("Hello world 👍.");
  });

  test("a violation ends the pipeline", async () => {
    const { writable, text } = sink();
    await expect(pipeline(moderate(["well BAD BAD "]).toReadable(), writable)).rejects.toBeInstanceOf(
      ModerationViolation,
    );
    expect(text()).toBe("well");
  });

  test("a reader who leaves stops a source that says nothing more", async () => {
    const from = source(["one ", "two ", "three ", "four "], { stuckAt: 4 });
    const { writable } = sink((text, self) => {
      if (text.includes("two")) self.destroy();
    });
    await expect(pipeline(moderate(from.chunks).toReadable(), writable)).rejects.toMatchObject({
      code: "ERR_STREAM_PREMATURE_CLOSE",
    });
    await tick();
    expect(from.record.returned).toBe(true);
  });

  test("await using stops it where its scope ends", async () => {
    const from = source(["one ", "two ", "three "], { stuckAt: 3 });
    const stream = moderate(from.chunks);
    await stream.next();
    await stream[Symbol.asyncDispose]();
    expect(from.record.returned).toBe(true);
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });
});

describe("hold-back", () => {
  test("a word is held while more letters may come, and a first flagged token while a second may", async () => {
    const steps: string[] = [];
    let give!: (chunk: IteratorResult<string>) => void;
    const chunks = {
      [Symbol.asyncIterator]: () => ({
        next: () =>
          new Promise<IteratorResult<string>>((resolve) => {
            give = resolve;
          }),
      }),
    };
    const collected = (async () => {
      for await (const text of moderate(chunks)) steps.push(text);
    })();
    const feed = async (text: string) => {
      await tick();
      give({ done: false, value: text });
      await tick();
      return steps.join("");
    };
    expect(await feed("Hel")).toBe("");
    expect(await feed("lo there")).toBe("Hello");
    expect(await feed(" BAD")).toBe("Hello there");
    // The unsafe word stands now, and alone it is nothing; but a second may come.
    expect(await feed(" or")).toBe("Hello there");
    expect(await feed(" not")).toBe("Hello there BAD or");
    await tick();
    give({ done: true, value: undefined });
    await collected;
    expect(steps.join("")).toBe("Hello there BAD or not");
  });

  test("a word that turns harmless as it grows is not held against it", async () => {
    const { out, error } = await collect(
      moderate(source(["BAD BA", "D? no: ", "BA", "Y"]).chunks, { policy: { debounce: 3 } }),
    );
    expect(error).toBeNull();
    expect(out.join("")).toBe("BAD BAD? no: BAY");
  });

  test("for any words in any chunks, exactly what the policy lets pass comes out", async () => {
    const word = fc.constantFrom("fine ", "BAD ", "HMM ", "BAD.PII ", "so", "\n", "e\u0301 ", "👍");
    const chunking = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 });
    const policy: fc.Arbitrary<PolicyData> = fc.record({
      reading: fc.constantFrom("strict" as const, "loose" as const),
      debounce: fc.integer({ min: 1, max: 3 }),
      categories: fc.constantFrom<PolicyData["categories"]>({}, { PII: "ignore" }, { PII: "observe" }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(word, { maxLength: 20 }), chunking, policy, async (words, sizes, data) => {
        const text = words.join("");
        const chunks: string[] = [];
        for (let at = 0, i = 0; at < text.length; i++) {
          chunks.push(text.slice(at, at + sizes[i % sizes.length]));
          at += chunks.at(-1)!.length;
        }
        const whole = new ScriptedStream();
        await whole.pushText(text);
        const { violation } = ruleResponse([...(await allVerdicts(text))], policyOf(data));
        whole.close();
        const { out, error } = await collect(moderate(chunks, { policy: data }));
        if (!violation) {
          expect(error).toBeNull();
          expect(out.join("")).toBe(text);
          return;
        }
        expect(error).toMatchObject({ index: violation.index });
        const tokens = (await allVerdicts(text)).map((verdict) => verdict.text);
        const passed = tokens.slice(0, violation.from).join("");
        expect(out.join("").normalize("NFC")).toBe(passed);
        expect(text.startsWith(out.join(""))).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

async function allVerdicts(text: string) {
  const judge = new ScriptedStream();
  const pushed = await judge.pushText(text);
  const flushed = await judge.flush();
  judge.close();
  return [...pushed.slice(0, pushed.length - flushed.length), ...flushed];
}

describe("what a source may give", () => {
  test("token ids come out as ids", async () => {
    const { out, error } = await collect(moderate([1, [2, 3], 4, 666, 5]));
    expect(error).toBeNull();
    expect(out.flat()).toEqual([1, 2, 3, 4, 666, 5]);
    const flagged = await collect(moderate(source([1, [2, 666], 666, 7]).chunks));
    expect(flagged.out.flat()).toEqual([1, 2]);
    expect(flagged.error).toMatchObject({ index: 3, span: { start: 2, end: 4, text: null } });
  });

  test("bytes may be cut within a character", async () => {
    const bytes = new TextEncoder().encode("Grüße 👍!");
    const { out } = await collect(moderate(Array.from(bytes, (byte) => Uint8Array.of(byte))));
    expect(out.join("")).toBe("Grüße 👍!");
    const cut = await collect(moderate([bytes.slice(0, 3)]));
    expect(cut.out.join("")).toBe("Gr\ufffd");
  });

  test("a Web stream is read, and cancelled", async () => {
    const cancel = vi.fn();
    const stream = new ReadableStream<string>({
      start(controller) {
        for (const text of ["fine ", "BAD ", "BAD ", "x"]) controller.enqueue(text);
      },
      cancel,
    });
    const { out, error } = await collect(moderate(stream));
    expect(out.join("")).toBe("fine");
    expect(error).toBeInstanceOf(ModerationViolation);
    await tick();
    expect(cancel).toHaveBeenCalled();
  });

  test("a Node stream is read, and destroyed", async () => {
    const stream = Readable.from(
      ["fine ", "BAD ", "BAD ", "x", "y"].map((text) => Buffer.from(text)),
      { highWaterMark: 1 },
    );
    const { out, error } = await collect(moderate<Buffer>(stream));
    expect(out.join("")).toBe("fine");
    expect(error).toBeInstanceOf(ModerationViolation);
    await expect.poll(() => stream.destroyed).toBe(true);
  });

  test("a Node stream that stands still is destroyed as well", async () => {
    const standing = new Readable({ read() {} });
    standing.push("fine ");
    standing.push("so far");
    const stream = moderate<Buffer>(standing);
    await stream.next();
    await stream.return();
    expect(standing.destroyed).toBe(true);
  });

  test("one that nobody ever asked is told as well", async () => {
    const cancel = vi.fn();
    const web = () => new ReadableStream<string>({ cancel });
    const node = new Readable({ read() {} });
    const blocked: Script = { prompt: "Unsafe" };
    await collect(moderate(web(), { promptFirst: true }, blocked));
    await collect(moderate<Buffer>(node, { promptFirst: true }, blocked));
    await collect(moderate(web(), { signal: AbortSignal.abort() }));
    await moderate(web()).return();
    expect(cancel).toHaveBeenCalledTimes(3);
    expect(node.destroyed).toBe(true);
  });

  test("and a Web stream comes of it", async () => {
    const web = ReadableStream.from(moderate(["some ", "text"]));
    expect(await new Response(web.pipeThrough(new TextEncoderStream())).text()).toBe("some text");
  });

  test.each<[string, unknown[], string]>([
    ["objects of no known shape", [{ words: "a" }], "CHUNK_INVALID"],
    ["null", [null], "CHUNK_INVALID"],
    ["lists of other things", [["a", {}]], "CHUNK_INVALID"],
    ["text and ids", ["a", 1], "MIXED_INPUT"],
  ])("not %s", async (_, chunks, code) => {
    expect((await collect(moderate(chunks as string[]))).error).toMatchObject({ code });
  });
});

test("who waits for the prompt's ruling hears that there is none, where the gate ends before", async () => {
  const script = { promptAfter: new Promise(() => {}) };
  const gate = new Gate<never>([{ kind: "text", text: "one" }], () => new ScriptedStream(script), {
    policy: policyOf(),
  });
  gate.start();
  await tick();
  await gate.return();
  expect(await gate.prompt).toBeNull();
});

describe("items between text", () => {
  type Item = { call: number };
  const gate = (parts: Part<Item>[], options: Partial<GateOptions> = {}) =>
    new Gate<Item>(source(parts).chunks, () => new ScriptedStream(), { policy: policyOf(), ...options });

  test("keep their place; a boundary settles the text before it", async () => {
    const parts: Part<Item>[] = [
      { kind: "item", item: { call: 0 } },
      { kind: "text", text: "let me loo" },
      { kind: "text", text: "k" },
      { kind: "item", item: { call: 1 }, boundary: true },
      { kind: "text", text: "there" },
      { kind: "item", item: { call: 2 } },
      { kind: "text", text: "fore it is" },
    ];
    const { out } = await collect(gate(parts));
    const flat = out.map((part) =>
      part.kind === "text" ? part.text : part.kind === "item" ? part.item.call : "?",
    );
    expect(flat.join("")).toBe("0let me look1there2fore it is");
    expect(flat).toContain(1);
  });

  test("a boundary's item need not wait for text after it", async () => {
    const from = source<Part<Item>>(
      [
        { kind: "text", text: "wait" },
        { kind: "item", item: { call: 1 }, boundary: true },
      ],
      { stuckAt: 2 },
    );
    const stream = new Gate<Item>(from.chunks, () => new ScriptedStream(), { policy: policyOf() });
    expect((await stream.next()).value).toMatchObject({ text: "wait" });
    expect((await stream.next()).value).toMatchObject({ item: { call: 1 } });
    await stream.return();
  });

  test("do not overtake a token that a flag may still reach, and there is an end to how many wait", async () => {
    const item: Part<Item> = { kind: "item", item: { call: 1 }, boundary: true };
    const flagged = await collect(
      gate([{ kind: "text", text: "a BAD" }, item, { kind: "text", text: " BAD" }]),
    );
    expect(flagged.out).toEqual([{ kind: "text", text: "a", tag: undefined }]);
    expect(flagged.error).toBeInstanceOf(ModerationViolation);
    const many = await collect(
      gate([{ kind: "text", text: "a BAD" }, ...Array<Part<Item>>(9000).fill(item)]),
    );
    expect(many.error).toMatchObject({ code: "HELD_TOO_MUCH" });
    expect(many.error).toBeInstanceOf(GuardError);
  });
});
