import fc from "fast-check";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { JinjaTemplate } from "../../src/tokenizer/chat-template/jinja-template.js";
import type { Message } from "../../src/tokenizer/chat-template/messages.js";
import { encodeParts } from "../../src/tokenizer/chat-template/parts.js";
import { ChatTemplate } from "../../src/tokenizer/chat-template/template.js";
import { IncrementalEncoder } from "../../src/tokenizer/incremental.js";
import { leastBytes, mostBytes } from "../../src/tokenizer/limits.js";
import { normalize } from "../../src/tokenizer/normalization/normalize.js";
import { atOnce, inTurns, SLICE, slicesOf } from "../../src/tokenizer/slices.js";
import { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { DEFAULT_MODEL } from "../support/model.js";
import { QWEN3, qwen3 } from "./qwen3.js";
import { fewMarks, texts } from "./texts.js";

const numRuns = Number(process.env.PROPERTY_RUNS ?? 200);
const timeout = Math.max(240_000, numRuns * 400);
const MEGABYTE = 1 << 20;
const tooLong = expect.objectContaining({ name: "ContextLengthError", code: "PROMPT_TOO_LONG" });
const user = (content: string): Message => ({ role: "user", content });

let tokenizer: Tokenizer;
let template: ChatTemplate;
let small: { tokenizer: Tokenizer; template: ChatTemplate };
beforeAll(async () => {
  tokenizer = await qwen3();
  template = await ChatTemplate.load(QWEN3, tokenizer);
  // By templating, it is counted what a message takes, when a long conversation first has one of its role.
  const each = ["user", "assistant", "tool"].map((role) => ({ role, content: "" }));
  await template.prefixWithin(4096, [...Array(30).fill(each).flat(), user("")]);
  const embedded = await Tokenizer.load(DEFAULT_MODEL);
  small = { tokenizer: embedded, template: await ChatTemplate.load(DEFAULT_MODEL, embedded) };
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe("the fewest bytes that NFC leaves", () => {
  const least = (character: string) => leastBytes(character);

  test("of every character, whatever it is composed of", () => {
    // What stands for each character of a full decomposition, at its largest: itself, or one that decomposes to it alone.
    const largest = new Map<string, number>();
    const all = Array.from({ length: 0x110000 }, (_, code) => code)
      .filter((code) => code < 0xd800 || code > 0xdfff)
      .map((code) => String.fromCodePoint(code));
    const share = (part: string) => largest.get(part) ?? least(part);
    // Most decompose to themselves: their own share is what they have.
    const decomposed = new Map(
      all.flatMap((character) => {
        const parts = character.normalize("NFD");
        return parts === character ? [] : [[character, [...parts]]];
      }),
    );
    for (const [character, [part, ...others]] of decomposed) {
      if (others.length === 0) largest.set(part, Math.max(share(part), least(character)));
    }
    const sum = (character: string) =>
      (decomposed.get(character) ?? [character]).reduce((all, part) => all + share(part), 0);
    const [above, composedAbove]: string[][] = [[], []];
    for (const character of all) {
      const parts = sum(character);
      if (least(character) > parts) above.push(character);
      if (parts > Buffer.byteLength(character) && character.normalize("NFC") === character)
        composedAbove.push(character);
    }
    expect({ above, composedAbove }).toEqual({ above: [], composedAbove: [] });
  });

  test("of any text", () => {
    fc.assert(
      fc.property(texts, (text) => {
        expect(leastBytes(text)).toBeLessThanOrEqual(Buffer.byteLength(normalize(text)));
      }),
      { numRuns },
    );
  });
});

describe("encoding in slices", () => {
  test("slices are the text, and none cuts a pair", () => {
    const text = `${"x".repeat(SLICE - 1)}${"😀".repeat(SLICE)}`;
    const slices = [...slicesOf(text)];
    expect(slices.join("")).toBe(text);
    expect(slices.some((slice) => /\p{Surrogate}/u.test(slice))).toBe(false);
  });

  test(
    "gives the ids of encoding at once",
    async () => {
      const long = fc
        .tuple(texts, texts, fc.integer({ min: SLICE - 40, max: 3 * SLICE }))
        .map(([text, other, length]) =>
          (text + other).repeat(Math.ceil(length / Math.max(1, (text + other).length))),
        )
        .map((text) => fewMarks(text.slice(0, 4 * SLICE)));
      await fc.assert(
        fc.asyncProperty(long, long, async (one, two) => {
          const expected = [7, ...tokenizer.encode(one), 8, ...tokenizer.encode(two)];
          expect(atOnce(encodeParts([7, one, 8, two], tokenizer))).toEqual(expected);
          expect(await inTurns(encodeParts([7, one, 8, two], tokenizer))).toEqual(expected);
        }),
        { numRuns: Math.ceil(numRuns / 10) },
      );
    },
    timeout,
  );

  test("each slice has a turn of the event loop of its own, however many encode at once", async () => {
    let turn = 0;
    let running = true;
    const count = () => {
      turn++;
      if (running) setImmediate(count);
    };
    setImmediate(count);
    const seen: number[] = [];
    const { push } = IncrementalEncoder.prototype;
    vi.spyOn(IncrementalEncoder.prototype, "push").mockImplementation(function (
      this: IncrementalEncoder,
      chunk,
    ) {
      seen.push(turn);
      return push.call(this, chunk);
    });
    const text = "hello world ".repeat(SLICE);
    const most = 2 * tokenizer.encode("hello world ".repeat(SLICE)).length;
    await Promise.all([1, 2, 3].map(() => inTurns(encodeParts([text], tokenizer, most))));
    running = false;
    // The first slice of each is encoded when it is asked for.
    expect(seen).toHaveLength(3 * 12);
    expect(new Set(seen.slice(3)).size).toBe(3 * 12 - 3);
  });

  test.each([
    ["words", "hello world "],
    ["one letter", "a"],
    ["spaces", " "],
    ["digits", "7"],
    ["letters without a break", "abcdefghij"],
    ["thinking", "</think>"],
  ])("stops soon after as many ids as there may be: %s", (_, unit) => {
    const text = unit.repeat(MEGABYTE / unit.length);
    const ids = tokenizer.encode(unit.repeat(SLICE / unit.length));
    const most = 4 * ids.length;
    const steps = encodeParts([text.slice(0, most * tokenizer.longest - 1)], tokenizer, most);
    let count = 0;
    const run = () => {
      while (!steps.next().done) count++;
    };
    expect(run).toThrow(tooLong);
    expect(count).toBeLessThanOrEqual(6);
  });
});

describe("a conversation's size", () => {
  const rendered = () => vi.spyOn(JinjaTemplate.prototype, "steps");
  const encoded = () => vi.spyOn(IncrementalEncoder.prototype, "push");
  const MOST = 8192;
  const calls = (args: unknown) => [{ type: "function", function: { name: "f", arguments: args } }];
  const nested = (depth: number) => {
    let value: unknown = 1;
    for (let i = 0; i < depth; i++) value = [value];
    return value;
  };

  test.each<[string, Message[]]>([
    ["9 MB of words", [user("hello world ".repeat(750_000))]],
    ["9 MB of marks", [user(`a${"\u0301\u0323\u0345\u0334".repeat(1_100_000)}`)]],
    ["9 MB of </think>", [{ role: "assistant", content: "</think>".repeat(1_100_000) }, user("Hi")]],
    ["50,000 short messages", Array(50_000).fill(user("a"))],
    ["50,000 answers of tools", [user("x"), ...Array(50_000).fill({ role: "tool", content: "a" })]],
    ["2,100 answers of tools", [user("x"), ...Array(2_100).fill({ role: "function", content: "a" })]],
    ["20,000 </think>", [...Array(20_000).fill({ role: "assistant", content: "</think>a" }), user("Hi")]],
    [
      "a long reasoning",
      [{ role: "assistant", content: "a", reasoning_content: " ".repeat(9e6) }, user("Hi")],
    ],
    ["a long argument", [{ role: "assistant", content: "", tool_calls: calls(" ".repeat(9e6)) }, user("Hi")]],
    [
      "many arguments",
      [{ role: "assistant", content: "", tool_calls: calls(Array(1e5).fill({})) }, user("Hi")],
    ],
    ["100,000 parts", [{ role: "user", content: Array(1e5).fill({ type: "text", text: "" }) }]],
  ])("%s are refused before they are templated", (_, messages) => {
    const [render, encode] = [rendered(), encoded()];
    expect(() => template.prefixWithin(MOST, messages)).toThrow(tooLong);
    expect(render).not.toHaveBeenCalled();
    expect(encode).not.toHaveBeenCalled();
  });

  test("thousands of messages are templated in turns of the event loop, and their ids are those of templating at once", async () => {
    let turns = 0;
    let running = true;
    const count = () => {
      turns++;
      if (running) setImmediate(count);
    };
    setImmediate(count);
    const messages = Array.from({ length: 1500 }, (_, i) =>
      i % 3 === 1
        ? { role: "assistant", content: "", tool_calls: calls({ i }) }
        : { role: i % 3 === 2 ? "tool" : "user", content: "ok" },
    );
    const within = await template.prefixWithin({ most: 60_000, context: MOST, bytes: 600_000 }, messages);
    running = false;
    expect(turns).toBeGreaterThan((2 * messages.length) / 64);
    expect(within).toEqual(template.prefix(messages));
  });

  test("each message costs something beside its text, and how many there may be follows from that", () => {
    const limits = { most: 60_000, context: MOST, bytes: 64 * 1000 };
    const wrong =
      "The conversation, of 1001 messages, has more text than the 128000 characters that are read";
    expect(() => template.prefixWithin(limits, Array(1001).fill(user("")))).toThrow(wrong);
    expect(() => template.prefixWithin(limits, Array(1000).fill(user("a")))).toThrow(tooLong);
    expect(() =>
      template.prefixWithin(limits, [...Array(998).fill(user("")), user("a".repeat(128))]),
    ).not.toThrow();
  });

  test("what is refused names windows where there are none, and maxWindows where there are", async () => {
    const long = [user("a word ".repeat(2000))];
    await expect((async () => template.prefixWithin(600, long))()).rejects.toThrow(
      'Drop older turns, let it be judged in windows (overflow: "slide"), or raise maxTokens',
    );
    const windows = { most: 1200, context: 600, bytes: 600_000 };
    await expect((async () => template.prefixWithin(windows, long))()).rejects.toThrow(
      "Drop older turns, raise maxWindows, or raise maxTokens",
    );
  });

  test("tools count too", () => {
    const render = rendered();
    expect(() => template.prefixWithin(MOST, [user("Hi")], { tools: Array(40_000).fill(1) })).toThrow(
      tooLong,
    );
    expect(() => template.prefixWithin(MOST, [user("Hi")], { tools: ["x".repeat(3e6)] })).toThrow(tooLong);
    expect(render).not.toHaveBeenCalled();
  });

  test("nesting is refused by name, however deep", () => {
    for (const depth of [1e4, 2e4, 1e6]) {
      const messages: Message[] = [
        { role: "assistant", content: "", tool_calls: calls(nested(depth)) },
        user("Hi"),
      ];
      expect(() => template.prefixWithin(MOST, messages)).toThrow(
        expect.objectContaining({ code: depth < 4 * MOST ? "MESSAGES_INVALID" : "PROMPT_TOO_LONG" }),
      );
    }
  });

  test("a megabyte that its length does not tell of is refused before it is encoded, once it is templated", () => {
    const encode = encoded();
    expect(() => template.prefixWithin(MOST, [user("a".repeat(MOST * tokenizer.longest))])).toThrow(tooLong);
    expect(encode).not.toHaveBeenCalled();
  });

  test("a picture is not text, however large it is", () => {
    const content = [
      { type: "text", text: "What is it?" },
      { type: "image_url", image_url: { url: "data:".padEnd(9e6, "A") } },
    ];
    const seen = template.prefixWithin(MOST, [{ role: "user", content }], { attachments: "ignore" });
    expect(seen).toEqual(template.prefix([user("What is it?")]));
  });

  test("what is no list of messages is still named as such", () => {
    for (const wrong of [
      null,
      "x",
      [],
      [null],
      [{ role: 7, content: "x" }],
      [{ role: "user", content: 7 }],
    ]) {
      expect(() => template.prefixWithin(MOST, wrong as never)).toThrow(
        expect.objectContaining({ code: "MESSAGES_INVALID" }),
      );
    }
  });

  test(
    "nothing is refused that fits, and nothing is let through that does not",
    async () => {
      const message = fc
        .tuple(
          fc.constantFrom("user", "assistant", "tool", "system", "developer"),
          fc.oneof(texts, fc.constantFrom("\u1fbe\u0308\u0301", " ", "\u212a", "<think>a</think>\n\nb")),
          fc.integer({ min: 1, max: 600 }),
        )
        .map(
          ([role, text, times]): Message => ({
            role,
            content: fewMarks(text.repeat(times).slice(0, 3 * SLICE)),
          }),
        );
      const conversation = fc.array(message, { maxLength: 6 }).map((messages) => [...messages, user("Hi")]);
      await fc.assert(
        fc.asyncProperty(conversation, fc.constantFrom(-1, 0, 1, 2), async (messages, spare) => {
          for (const { template: chat } of [small, { template }]) {
            const expected = chat.prefix(messages);
            const most = expected.ids.length + spare;
            const within = (async () => chat.prefixWithin(most, messages))();
            if (spare > 0) expect(await within).toEqual(expected);
            else await expect(within).rejects.toEqual(tooLong);
          }
        }),
        { numRuns: Math.ceil(numRuns / 4) },
      );
    },
    timeout,
  );
});

test("a request's bytes follow from what the guard can read", () => {
  const beside = 1 << 18;
  expect(mostBytes({ maxTokens: 8192, tokenizer })).toBe(MEGABYTE + beside);
  expect(mostBytes({ maxTokens: 2048, tokenizer: small.tokenizer })).toBe(2048 * 24 + beside);
});
