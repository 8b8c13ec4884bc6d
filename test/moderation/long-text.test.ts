import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Guard, loadGuard } from "../../src/guard.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { JinjaTemplate } from "../../src/tokenizer/chat-template/jinja-template.js";
import { IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import { MOST_UNSETTLED } from "../../src/tokenizer/limits.js";
import { SLICE } from "../../src/tokenizer/slices.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

/** More than a slice holds, and less than the guard does. */
const LONG = "international ".repeat(400);
const conversation = (content: string) => [{ role: "user", content }];

let guard: Guard;
beforeAll(async () => {
  guard = await loadGuard(undefined, { cacheDir: MODEL_CACHE, maxStreams: 4 });
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(async () => {
  await idle(guard);
  await guard.close();
});

/** Counts turns of the event loop while it runs. */
function turns() {
  const counter = { turn: 0, stop: () => clearImmediate(next) };
  let next: NodeJS.Immediate;
  const count = () => {
    counter.turn++;
    next = setImmediate(count);
  };
  next = setImmediate(count);
  return counter;
}

/** In which turn of the event loop each slice was encoded. */
function slices(counter: { turn: number }): number[] {
  const seen: number[] = [];
  const { push } = IncrementalEncoder.prototype;
  vi.spyOn(IncrementalEncoder.prototype, "push").mockImplementation(function (
    this: IncrementalEncoder,
    text,
  ) {
    seen.push(counter.turn);
    return push.call(this, text);
  });
  return seen;
}

describe("a long prompt", () => {
  test("is encoded in turns of the event loop, and judged as one that was encoded at once", async () => {
    const counter = turns();
    const seen = slices(counter);
    const stream = guard.stream({ messages: conversation(LONG) });
    const verdict = await stream.prompt;
    counter.stop();
    stream.close();
    expect(seen.length).toBeGreaterThan(1);
    expect(new Set(seen).size).toBe(seen.length);

    const { ids } = guard.template.prefix(conversation(LONG));
    const other = guard.stream({ promptIds: ids });
    expect(await other.prompt).toEqual(verdict);
    other.close();
  });

  test("calls made meanwhile wait for it, in order", async () => {
    const stream = guard.stream({ messages: conversation(LONG) });
    const ended: string[] = [];
    const told = (name: string) => (value: unknown) => {
      ended.push(name);
      return value;
    };
    const calls = [
      stream.pushText("One").then(told("one")),
      stream.pushText(" two").then(told("two")),
      stream.flush().then(told("flush")),
      stream.pushText(" three").then(told("three")),
      stream.end().then(told("end")),
    ];
    await Promise.all([stream.prompt.then(told("prompt")), ...calls]);
    expect(ended).toEqual(["prompt", "one", "two", "flush", "three", "end"]);
    expect((await stream.end()).tokens).toBe(
      guard.tokenizer.encode("One two").length + guard.tokenizer.encode(" three").length,
    );
  });

  test("that is too long, which its length does not tell, is refused when its tokens do", async () => {
    const words = "an international word ".repeat(1000);
    expect(Buffer.byteLength(words)).toBeLessThan(guard.maxTokens * guard.tokenizer.longest);
    const stream = guard.stream({ messages: conversation(words) });
    const pushed = stream.pushText("Hi");
    pushed.catch(() => {});
    const tooLong = { name: "ContextLengthError", code: "PROMPT_TOO_LONG" };
    await expect(stream.prompt).rejects.toMatchObject(tooLong);
    await expect(stream.turns).rejects.toMatchObject(tooLong);
    await expect(pushed).rejects.toMatchObject(tooLong);
    await expect(stream.pushText("Hi")).rejects.toMatchObject(tooLong);
  });

  test("with too many marks is refused by name", async () => {
    const marks = `a${"\u0301\u0323".repeat(2 * SLICE)}`;
    const stream = guard.stream({ messages: conversation(marks) });
    await expect(stream.prompt).rejects.toMatchObject({ name: "InputError", code: "MARKS_TOO_MANY" });
    expect(() => guard.stream({ messages: conversation(marks.slice(0, SLICE / 2)) })).toThrow(
      expect.objectContaining({ code: "MARKS_TOO_MANY" }),
    );
  });

  test("whose stream is closed or aborted meanwhile tells so at once", async () => {
    const counter = turns();
    const seen = slices(counter);
    const controller = new AbortController();
    const [closed, aborted] = [undefined, controller.signal].map((signal) =>
      guard.stream({ messages: conversation(`Again: ${LONG}`), signal }),
    );
    const pushes = [closed.pushText("Hi"), aborted.pushText("Hi")];
    for (const push of pushes) push.catch(() => {});
    const encoded = seen.length;
    closed.close();
    controller.abort();
    for (const waiting of [closed.prompt, closed.turns, pushes[0]]) {
      await expect(waiting).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    }
    for (const waiting of [aborted.prompt, aborted.turns, pushes[1]]) {
      await expect(waiting).rejects.toMatchObject({ code: "STREAM_ABORTED" });
    }
    expect(seen.length).toBe(encoded);
    // What is under way ends by itself.
    await expect.poll(() => seen.length).toBe(encoded + 2);
    counter.stop();
  });

  test("that several streams share is templated and encoded once", async () => {
    const render = vi.spyOn(JinjaTemplate.prototype, "steps");
    const push = vi.spyOn(IncrementalEncoder.prototype, "push");
    const prompt = guard.prompt({ messages: conversation(LONG), reasoning: true });
    const streams = Array.from({ length: guard.maxStreams }, () => guard.stream({ prompt }));
    const verdicts = await Promise.all(streams.map((stream) => stream.prompt));
    expect(render).toHaveBeenCalledTimes(1);
    expect(push).toHaveBeenCalledTimes(Math.ceil(LONG.length / SLICE));
    expect(new Set(verdicts.map((verdict) => verdict?.tokenId)).size).toBe(1);
    for (const stream of streams) stream.close();
  });

  test("that fails for one of them fails for all, and is nobody's unhandled rejection", async () => {
    const prompt = guard.prompt({ messages: conversation("an international word ".repeat(1000)) });
    for (let i = 0; i < 2; i++) {
      await expect(guard.stream({ prompt }).prompt).rejects.toMatchObject({ code: "PROMPT_TOO_LONG" });
    }
  });

  test("of ids is refused before any is looked at", () => {
    const look = vi.spyOn(guard.tokenizer, "tokenBytes");
    expect(() => guard.stream({ promptIds: Array(1e6).fill(5) })).toThrow(
      expect.objectContaining({ code: "PROMPT_TOO_LONG" }),
    );
    expect(look).not.toHaveBeenCalled();
  });
});

describe("a long response", () => {
  const messages = conversation("Hi");
  const standing = (verdicts: Verdict[]) => verdicts.map(({ index, tokenId }) => [index, tokenId]);

  test("in one chunk is encoded in turns of the event loop, to the same tokens", async () => {
    const text = `${"international ".repeat(400)}end`;
    const counter = turns();
    const seen = slices(counter);
    const stream = guard.stream({ messages });
    const calls = [stream.pushText(text), stream.pushText("ing"), stream.flush()];
    const verdicts: Verdict[] = [];
    for (const call of calls) {
      for (const verdict of await call) {
        verdicts.length = Math.min(verdicts.length, verdict.index);
        verdicts.push(verdict);
      }
    }
    counter.stop();
    expect(new Set(seen.slice(0, 2)).size).toBe(2);
    expect(standing(verdicts)).toEqual(guard.tokenizer.encode(`${text}ing`).map((id, index) => [index, id]));
    stream.close();
  });

  test("closed while it is encoded rejects all that waits", async () => {
    const stream = guard.stream({ messages });
    await stream.prompt;
    const calls = [stream.pushText("a ".repeat(50_000)), stream.pushText("b"), stream.end()];
    const ends = Promise.allSettled(calls);
    stream.close();
    const closed = { status: "rejected", reason: { code: "STREAM_CLOSED" } };
    expect(await ends).toMatchObject([closed, closed, closed]);
  });

  test.each([
    ["marks without end", "MARKS_TOO_MANY", ["a", ...Array(40).fill("\u0301\u0323\u0345\u0334".repeat(16))]],
    ["marks in one chunk", "MARKS_TOO_MANY", [`a${"\u0301\u0323".repeat(3 * SLICE)}`]],
    ["spaces without end after a line break", "TEXT_UNSETTLED", ["\n", ...Array(100).fill(" ".repeat(64))]],
  ])("fails by name where it would be held for ever: %s", async (_, code, chunks) => {
    const stream = guard.stream({ messages, overflow: "slide" });
    let held = 0;
    const read = async () => {
      for (const chunk of chunks) {
        await stream.pushText(chunk);
        held++;
      }
    };
    await expect(read()).rejects.toMatchObject({ name: "InputError", code });
    await expect(stream.pushText("x")).rejects.toMatchObject({ code });
    await expect(stream.end()).rejects.toMatchObject({ code });
    expect(held).toBeLessThanOrEqual(MOST_UNSETTLED);
  });

  test("without end that settles goes on", async () => {
    const stream = guard.stream({ messages, overflow: "slide" });
    for (const unit of ["a", " ", "7", "=", "的", "\n"]) {
      await stream.pushText(unit.repeat(300));
    }
    expect((await stream.end()).tokens).toBeGreaterThan(100);
  });
});
