import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Guard, loadGuard } from "../../src/guard.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const messages = [{ role: "user", content: "Hi" }];
const named = (code: string, message?: RegExp) =>
  expect.objectContaining({
    name: "InputError",
    code,
    ...(message && { message: expect.stringMatching(message) }),
  });

let guard: Guard;
const cacheDir = MODEL_CACHE;
beforeAll(async () => {
  guard = await loadGuard({ cacheDir, maxStreams: 2, maxTokens: 256 });
});
afterAll(() => guard.close());

describe("loadGuard", () => {
  test("takes its options first, and the model among them", async () => {
    expect(guard.maxStreams).toBe(2);
    const same = await loadGuard({ model: guard.modelDir, maxStreams: 3 });
    expect(same.modelDir).toBe(guard.modelDir);
    await same.close();
  });

  test.each<[string, unknown, RegExp]>([
    [
      "a typing error",
      { maxStream: 2 },
      /no option "maxStream". Did you mean maxStreams\? It takes: device, dtype/,
    ],
    ["a name of another library", { quantization: "int8" }, /no option "quantization". It takes: device/],
    ["maxStreams 0", { maxStreams: 0 }, /maxStreams of loadGuard is 0; it must be a whole number from 1/],
    ["maxStreams as a text", { maxStreams: "4" }, /maxStreams of loadGuard is "4"/],
    ["maxTokens NaN", { maxTokens: Number.NaN }, /maxTokens of loadGuard is NaN/],
    ["threads below 1", { threads: -1 }, /threads of loadGuard is -1/],
    ["threads 1.5", { threads: 1.5 }, /threads of loadGuard is 1.5/],
    ["a limit longer than a timer", { idleMs: 2 ** 31 }, /idleMs of loadGuard/],
    ["a cache by a word", { prefixCache: "no" }, /prefixCache of loadGuard is "no"; it must be false, or \{/],
    ["a slip within an option", { prefixCache: { max_tokens: 9 } }, /prefixCache of loadGuard/],
    ["a signal that is none", { signal: true }, /signal of loadGuard is true; it must be an AbortSignal/],
    ["a model that is no name", { model: 7 }, /model of loadGuard is 7/],
  ])("%s is refused before anything is loaded", async (_, options, message) => {
    await expect(loadGuard(options as never)).rejects.toEqual(named("OPTION_INVALID", message));
    const { model, ...rest } = options as { model?: unknown };
    if (model === undefined)
      await expect(loadGuard("no such model", rest)).rejects.toEqual(named("OPTION_INVALID"));
  });

  test("more tokens than the model's context are refused", async () => {
    await expect(loadGuard({ cacheDir, maxTokens: 1e9 })).rejects.toEqual(
      named("OPTION_INVALID", /maxTokens is/),
    );
  });
});

describe("guard.stream", () => {
  test.each<[string, unknown, string, RegExp?]>([
    ["nothing", undefined, "PROMPT_EMPTY", /A stream needs the conversation so far: messages/],
    ["no conversation", {}, "PROMPT_EMPTY"],
    ["a list", messages, "OPTION_INVALID", /guard.stream takes its options as an object, not as a list/],
    ["a text", "Hi", "OPTION_INVALID", /not as a value of type string/],
    ["an unknown name", { mesages: messages }, "OPTION_INVALID", /Did you mean messages\?/],
    [
      "an option of moderate",
      { messages, mode: "hold-back" },
      "OPTION_INVALID",
      /guard.stream has no option "mode"/,
    ],
    [
      "both kinds of prompt",
      { messages, promptIds: [1] },
      "OPTION_INVALID",
      /one of messages, promptIds and prompt/,
    ],
    [
      "tools by name",
      { messages, tools: { help: {} } },
      "OPTION_INVALID",
      /must be a list of tool definitions/,
    ],
    ["tools as a text", { messages, tools: "help" }, "OPTION_INVALID", /must be a list of tool definitions/],
    ["tools of ids", { promptIds: [1], tools: [{}] }, "OPTION_INVALID", /tools go with messages/],
    ["another kind of reasoning", { messages, reasoning: "yes" }, "OPTION_INVALID", /must be true or false/],
    ["an unknown scope", { messages, scope: "all" }, "OPTION_INVALID", /must be "turn" or "conversation"/],
  ])("%s is refused", async (_, input, code, message) => {
    expect(() => guard.stream(input as never)).toThrow(named(code, message));
    await idle(guard);
  });

  test("what is undefined was not given", () => {
    guard.stream({ messages, overflow: undefined, mode: undefined } as never).close();
  });
});

describe("guard.classify", () => {
  test.each<[string, unknown, string]>([
    ["nothing", undefined, "PROMPT_EMPTY"],
    ["a list", messages, "OPTION_INVALID"],
    ["an unknown name", { messages, mode: "hold-back" }, "OPTION_INVALID"],
    ["tools by name", { messages, tools: { help: {} } }, "OPTION_INVALID"],
  ])("%s is refused", async (_, input, code) => {
    await expect(guard.classify(input as never)).rejects.toEqual(named(code));
  });
});

describe("guard.moderate", () => {
  test.each<[string, unknown, string, RegExp?]>([
    ["no options", undefined, "PROMPT_EMPTY", /A stream needs the conversation so far: messages/],
    ["no conversation", { mode: "hold-back" }, "PROMPT_EMPTY"],
    [
      "an unknown mode",
      { messages, mode: "holdback" },
      "OPTION_INVALID",
      /mode of guard.moderate is "holdback"; it must be "hold-back" or "stream-first"/,
    ],
    ["an unknown name", { messages, onViolation() {} }, "OPTION_INVALID", /no option "onViolation"/],
    ["a replacement that is no text", { messages, replacement: 0 }, "OPTION_INVALID", /must be a text/],
    ["tools by name", { messages, tools: { help: {} } }, "OPTION_INVALID", /a list of tool definitions/],
    ["what is no function", { messages, onFailure: "log" }, "OPTION_INVALID", /must be a function/],
  ])("%s is refused at once", (_, options, code, message) => {
    expect(() => guard.moderate(["text"], options as never)).toThrow(named(code, message));
  });
});
