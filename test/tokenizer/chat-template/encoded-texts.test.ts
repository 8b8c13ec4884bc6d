import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Guard, loadGuard } from "../../../src/guard.js";
import { EncodedTexts } from "../../../src/tokenizer/chat-template/encoded-texts.js";
import { ChatTemplate } from "../../../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../../../src/tokenizer/tokenizer.js";
import { MODEL_CACHE } from "../../support/model.js";
import { QWEN3, qwen3 } from "../qwen3.js";
import { texts } from "../texts.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 25);
const LONG = "A word of a long text. ".repeat(40);
const VERY_LONG = "A word of a very long text. ".repeat(180);

afterEach(() => {
  vi.restoreAllMocks();
});

test("conversations whose texts come again have the ids that they have alone", async () => {
  const template = await ChatTemplate.load(QWEN3, await qwen3());
  const known = new EncodedTexts(20_000).of("");
  const content = fc.tuple(fc.constantFrom("", LONG, VERY_LONG), texts, fc.constantFrom("", LONG));
  await fc.assert(
    fc.asyncProperty(fc.array(content, { minLength: 1, maxLength: 4 }), async (contents) => {
      const messages = contents.map((pieces) => ({ role: "user", content: pieces.join("") }));
      const alone = await template.prefixWithin(1e6, messages);
      for (let time = 0; time < 2; time++)
        expect(await template.prefixWithin(1e6, messages, { known })).toEqual(alone);
      expect(template.prefix(messages, { known })).toEqual(alone);
    }),
    { numRuns: RUNS },
  );
});

test("what is too long is refused also where its texts are known", async () => {
  const template = await ChatTemplate.load(QWEN3, await qwen3());
  const known = new EncodedTexts().of("");
  const messages = [{ role: "user", content: LONG }];
  const { length } = (await template.prefixWithin(1e6, messages, { known })).ids;
  expect(() => template.prefixWithin(length, messages, { known })).toThrow(
    expect.objectContaining({ code: "PROMPT_TOO_LONG" }),
  );
});

test("what was not used for longest is forgotten first, and no more is kept than may be", () => {
  const all = new EncodedTexts(1000);
  const known = all.of("tenant");
  const [a, b, c, huge] = ["a", "b", "c", "huge"].map((name, i) => name.repeat(i === 3 ? 300 : 400));
  known.put(a, [1]);
  known.put(b, [2]);
  known.get(a);
  known.put(c, [3]);
  expect([a, b, c].map((text) => known.get(text))).toEqual([[1], undefined, [3]]);
  known.put(huge, [4]);
  expect(known.get(huge)).toBeUndefined();
  expect(all.characters).toBeLessThanOrEqual(1000);
});

test("one tenant's texts are not another's, whatever the names of tenants are", () => {
  const all = new EncodedTexts();
  all.of("a").put(`1 b${LONG}`, [1]);
  for (const [tenant, text] of [
    ["b", `1 b${LONG}`],
    ["a1 b", LONG],
    ["", `a1 b${LONG}`],
    ["1", ` b${LONG}`],
  ])
    expect(all.of(tenant).get(text)).toBeUndefined();
});

describe("of a guard", () => {
  let guard: Guard;
  beforeAll(async () => {
    guard = await loadGuard({ cacheDir: MODEL_CACHE, maxStreams: 2 });
  });
  afterAll(() => guard.close());

  /** How often the long text is encoded. */
  function encodings(
    on: Guard,
    asks: ((messages: { role: string; content: string }[]) => unknown)[],
  ): number {
    const encode = vi.spyOn(Tokenizer.prototype, "encode");
    for (const [i, ask] of asks.entries()) {
      ask([
        { role: "system", content: LONG },
        { role: "user", content: `Question ${i}` },
      ]);
    }
    const times = encode.mock.calls.filter(([text]) => text.includes(LONG)).length;
    encode.mockRestore();
    expect(on.load.waiting).toBe(0);
    return times;
  }

  test("a system prompt is encoded once for a tenant's streams and prompts, and once more for another's", () => {
    const stream = (cacheKey?: string) => (messages: { role: string; content: string }[]) =>
      guard.stream({ messages, cacheKey }).close();
    const prompt = (cacheKey?: string) => (messages: { role: string; content: string }[]) =>
      guard.prompt({ messages, cacheKey });
    expect(encodings(guard, [stream("a"), stream("a"), prompt("a")])).toBe(1);
    expect(encodings(guard, [stream("b")])).toBe(1);
    expect(encodings(guard, [stream("a"), stream("b"), prompt("b")])).toBe(0);
    // A prompt does not say whose it is.
    expect(encodings(guard, [prompt(), prompt()])).toBe(2);
    expect(encodings(guard, [(messages) => guard.stream({ messages }).close()])).toBe(1);
    expect(encodings(guard, [(messages) => guard.stream({ messages }).close()])).toBe(0);
  });

  test("where nothing is kept of prompts, no text is either", async () => {
    const forgetful = await loadGuard({ cacheDir: MODEL_CACHE, maxStreams: 2, prefixCache: false });
    const stream = (messages: { role: string; content: string }[]) => forgetful.stream({ messages }).close();
    expect(encodings(forgetful, [stream, stream])).toBe(2);
    await forgetful.close();
  });
});
