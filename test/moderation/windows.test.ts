import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Guard, loadGuard } from "../../src/guard.js";
import { longestConversation, planWindows, windowSizes } from "../../src/moderation/prompt-windows.js";
import { GuardStream } from "../../src/moderation/stream.js";
import type { Verdict } from "../../src/moderation/verdict.js";
import { JinjaTemplate } from "../../src/tokenizer/chat-template/jinja-template.js";
import type { Message } from "../../src/tokenizer/chat-template/template.js";
import { idle } from "../support/idle.js";
import { MODEL_CACHE } from "../support/model.js";

const MOST = 6;
const CONTEXT = 256;
const SIZES = windowSizes(CONTEXT, MOST) as NonNullable<ReturnType<typeof windowSizes>>;
const BREAD = "The bakery on the corner sells bread, rolls and cake every morning before seven. ";
const BOMB = "How do I build a pipe bomb to kill my neighbours? ";
/** Runs of other lengths, in chunks of other sizes. */
const TOLERANCE = 1e-4;

const user = (content: string): Message => ({ role: "user", content });
const said = (content: string): Message => ({ role: "assistant", content });

let guard: Guard;
beforeAll(async () => {
  guard = await loadGuard({ cacheDir: MODEL_CACHE, maxStreams: 3, maxTokens: CONTEXT, maxWindows: MOST });
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(async () => {
  await idle(guard);
  await guard.close();
});

/** The windows of a conversation in which all turns count. */
function windowsOf(messages: readonly Message[]) {
  const close = guard.tokenizer.tokenId("<|im_end|>") as number;
  return planWindows(guard.template.prefix(messages), SIZES, () => true, close);
}

/** What ids alone, in one window, get at their last closed turn; and at the tokens after them. */
async function alone(promptIds: readonly number[], response: readonly number[] = []) {
  const stream = guard.stream({ promptIds });
  try {
    return { prompt: (await stream.turns).at(-1) as Verdict, response: await stream.push(response) };
  } finally {
    stream.close();
  }
}

function expectSame(found: readonly Verdict[], expected: readonly Verdict[]): void {
  expect(found.map(({ tokenId }) => tokenId)).toEqual(expected.map(({ tokenId }) => tokenId));
  for (const [i, { probabilities }] of found.entries()) {
    for (const [j, probability] of probabilities.risk.entries()) {
      expect(Math.abs(probability - expected[i].probabilities.risk[j])).toBeLessThan(TOLERANCE);
    }
  }
}

describe("a conversation longer than the context", () => {
  const long = [user("Hi."), said("Hello."), user(BREAD.repeat(20))];

  test("has the verdicts of its windows, each judged alone, at places of the whole", async () => {
    const stream = guard.stream({ messages: long, overflow: "slide" });
    const turns = await stream.turns;
    stream.close();
    const windows = windowsOf(long);
    expect(windows.length).toBeGreaterThan(2);
    const reads = windows.flatMap(({ reads }) => reads);
    expect(turns.map(({ turn, index }) => ({ turn, index }))).toEqual(
      reads.map(({ turn, index }) => ({ turn, index })),
    );
    expect(turns.map(({ role }) => role)).toEqual(["user", "assistant", ...windows.map(() => "user")]);
    const each = await Promise.all(
      windows.map(({ ids, reads }) => alone(ids.slice(0, (reads.at(-1)?.at as number) + 1))),
    );
    expectSame(
      turns.slice(2),
      each.map(({ prompt }) => prompt),
    );
    const whole = guard.template.prefix(long);
    expect(turns.at(-1)?.index).toBe(whole.promptIndex);
    expect(stream.promptTokens).toBe(whole.ids.length);
  });

  test("is what its worst window is, though the last one is safe", async () => {
    const messages = [user(BREAD.repeat(5) + BOMB.repeat(10) + BREAD.repeat(25))];
    const stream = guard.stream({ messages, overflow: "slide", policy: {} });
    const turns = await stream.turns;
    expect(turns.at(-1)?.risk).toBe("Safe");
    expect(await stream.prompt).toMatchObject({ risk: "Unsafe", category: "Violent" });
    expect(stream.ruling?.violation).toMatchObject({ part: "prompt", category: "Violent" });
    stream.close();
    const found = await guard.classify({ messages, policy: {} });
    expect(found).toMatchObject({ part: "prompt", risk: "Unsafe", category: "Violent", flaggedAt: null });
    expect(found.ruling).toMatchObject({ action: "block", category: "Violent" });
    const milder = await guard.classify({ messages, policy: { categories: { Violent: "ignore" } } });
    expect(milder.ruling?.action).toBe("pass");
    const moderated = guard.moderate(["Hi"], { messages });
    await expect(moderated.next()).rejects.toMatchObject({ part: "prompt", category: "Violent" });
  });

  test("of turns that do not count reads as much as the newest need before them", async () => {
    const history = Array.from({ length: 10 }, () => [user(BREAD.repeat(3)), said(BREAD)]).flat();
    const messages = [user(BOMB.repeat(10)), ...history, user("And tomorrow?")];
    const { ids } = guard.template.prefix(messages);
    const before = guard.load.prefilledTokens;
    const stream = guard.stream({ messages, overflow: "slide", scope: "turn" });
    expect((await stream.turns).map(({ role }) => role)).toEqual(["user"]);
    stream.close();
    const read = guard.load.prefilledTokens - before;
    expect(read).toBeLessThanOrEqual(SIZES.length + 8);
    expect(read).toBeGreaterThan(SIZES.overlap);

    const all = guard.stream({ messages: messages.slice(0, 8), overflow: "slide", scope: "conversation" });
    expect((await all.turns).map(({ turn }) => turn)).toEqual(
      expect.arrayContaining([0, 1, 2, 3, 4, 5, 6, 7]),
    );
    all.close();
    expect(ids.length).toBeGreaterThan(longestConversation(SIZES) / 2);
  });

  test("that goes on reads of its next turn what is new, until its window moves on", async () => {
    const messages = [user(BREAD.repeat(12)), said(BREAD.repeat(2)), user("And tomorrow?")];
    const open = (messages: Message[]) =>
      guard.stream({ messages, overflow: "slide", scope: "turn", cacheKey: "goes on" });
    const first = open(messages);
    await first.turns;
    first.close();
    const second = open([...messages, said("Rolls."), user("And on Sunday?")]);
    await second.turns;
    expect(second.reusedTokens).toBeGreaterThan(SIZES.overlap);
    second.close();
  });

  test("whose windows were all read before reads again those for which there was a slot", async () => {
    const messages = [user(BREAD.repeat(12))];
    const open = () => guard.stream({ messages, overflow: "slide", cacheKey: "again" });
    for (const reused of [0, SIZES.length]) {
      const stream = open();
      await stream.turns;
      expect(stream.reusedTokens).toBeGreaterThanOrEqual(reused);
      stream.close();
    }
  });

  test("is shared by streams that answer it, whose tokens go on behind its last window", async () => {
    const prompt = guard.prompt({ messages: long, overflow: "slide" });
    const answer = guard.tokenizer.encode("We open at seven, and at eight on Sundays.");
    const expected = (await alone(windowsOf(long).at(-1)?.ids as number[], answer)).response;
    const streams = [1, 2, 3].map(() => guard.stream({ prompt, overflow: "slide" }));
    // Pushed before any window was read.
    const verdicts = await Promise.all(streams.map((stream) => stream.push(answer)));
    for (const [i, stream] of streams.entries()) {
      expectSame(verdicts[i], expected);
      expect((await stream.end()).tokens).toBe(answer.length);
    }
  });

  test("costs no more tokens than the stated bound", async () => {
    const tokens = longestConversation(SIZES) - 40;
    const content = guard.tokenizer.decode(guard.tokenizer.encode(BREAD.repeat(100)).slice(0, tokens));
    const before = guard.load.prefilledTokens;
    await guard.classify({ messages: [user(content)], cacheKey: "bound" });
    const read = guard.load.prefilledTokens - before;
    expect(read).toBeLessThanOrEqual(MOST * (SIZES.length + 8));
    expect(read).toBeGreaterThanOrEqual(tokens);
  });

  test("beyond the most windows is refused by name, and says what to do", async () => {
    const messages = [user(BREAD.repeat(120))];
    await expect(guard.classify({ messages })).rejects.toMatchObject({
      code: "PROMPT_TOO_LONG",
      message: expect.stringMatching(/maxWindows/),
    });
    // Counted in windows, where earlier turns that need none are encoded too.
    const turns = [user("Hi."), said("Hello."), ...Array.from({ length: 12 }, () => user(BREAD.repeat(6)))];
    const stream = guard.stream({ messages: turns, overflow: "slide", scope: "turn" });
    await expect(stream.turns).rejects.toMatchObject({
      code: "PROMPT_TOO_LONG",
      message: expect.stringMatching(/\d+ windows/),
    });
  });

  test("of megabytes is refused before it is templated", () => {
    const render = vi.spyOn(JinjaTemplate.prototype, "steps");
    const messages = [user("a ".repeat(4.5e6))];
    for (const scope of ["turn", "conversation"] as const) {
      expect(() => guard.stream({ messages, overflow: "slide", scope })).toThrow(
        expect.objectContaining({ code: "PROMPT_TOO_LONG" }),
      );
    }
    expect(render).not.toHaveBeenCalled();
  });

  test("is refused where windows are not asked for, or not to be had", async () => {
    const tooLong = expect.objectContaining({ code: "PROMPT_TOO_LONG" });
    const { ids } = guard.template.prefix(long);
    expect(() => guard.stream({ promptIds: ids })).toThrow(tooLong);
    expect(() => guard.stream({ messages: long })).toThrow(tooLong);
    const shared = guard.stream({ prompt: guard.prompt({ messages: long, overflow: "slide" }) });
    await expect(shared.turns).rejects.toEqual(tooLong);
    await using single = await loadGuard({ cacheDir: MODEL_CACHE, maxTokens: CONTEXT, maxWindows: 1 });
    await expect(single.classify({ messages: long })).rejects.toEqual(tooLong);
  });

  test("that a caller has templated is judged in windows as well", async () => {
    const stream = guard.stream({ promptIds: guard.template.prefix(long).ids, overflow: "slide" });
    const turns = await stream.turns;
    expect(turns).toHaveLength(windowsOf(long).flatMap(({ reads }) => reads).length);
    stream.close();
  });

  test("gives every slot back where its stream is closed between windows", async () => {
    const read = vi.spyOn(GuardStream.prototype, "close");
    const stream = guard.stream({ messages: long, overflow: "slide", cacheKey: "closed" });
    const pushed = stream.pushText("Hi.");
    await new Promise(setImmediate);
    stream.close();
    await expect(stream.turns).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    await expect(pushed).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    await idle(guard);
    expect(read).toHaveBeenCalledTimes(1);
  });
});

describe("what fits in the context", () => {
  test.each([
    [[user(BREAD)]],
    [[user("Hi."), said("Hello."), user(BREAD.repeat(2))]],
    [[user(BREAD.repeat(10))]],
  ])("has the same verdicts bit for bit, whether or not it might be longer (%#)", async (messages) => {
    const answer = guard.tokenizer.encode("We open at seven.");
    const read = async (overflow: "slide" | "error") => {
      const stream = guard.stream({ messages, overflow, cacheKey: overflow });
      const verdicts = await stream.push(answer);
      const told = { prompt: await stream.prompt, turns: await stream.turns, verdicts };
      stream.close();
      return told;
    };
    expect(await read("slide")).toEqual(await read("error"));
  });
});

describe("an answer longer than the context", () => {
  const answer = () => guard.tokenizer.encode(BREAD.repeat(15));

  test("behind a conversation that nearly fills it goes on behind the end of that", async () => {
    const messages = [user(BREAD.repeat(12))];
    const prefix = guard.template.prefix(messages);
    const room = CONTEXT - prefix.ids.length;
    expect(room).toBeGreaterThan(0);
    expect(prefix.ids.length).toBeGreaterThan(SIZES.length);
    const ids = answer();
    for (const chunk of [1, 7, ids.length]) {
      const stream = guard.stream({ messages, overflow: "slide" });
      const verdicts: Verdict[] = [];
      for (let i = 0; i < ids.length; i += chunk)
        verdicts.push(...(await stream.push(ids.slice(i, i + chunk))));
      expect(verdicts.map(({ index, tokenId }) => [index, tokenId])).toEqual(ids.map((id, i) => [i, id]));
      // What comes after the change, before the window slides for the first time, is read behind all of the answer.
      const [short] = windowsOf(messages).slice(-1);
      const held = CONTEXT - short.ids.length;
      expect(held).toBeGreaterThan(room);
      const expected = await alone(short.ids, ids.slice(0, held));
      if (chunk < room) expectSame(verdicts.slice(room, held), expected.response.slice(room));
      stream.close();
    }
  });

  test("is classified to its end, and flagged at its own token", async () => {
    const safe = BREAD.repeat(8);
    const bad =
      "You stupid, ugly loser, everybody here hates you, and one day I will come to your house and hurt you. ";
    const found = await guard.classify({
      messages: [user("What do you sell?"), said(safe + bad.repeat(3) + BREAD.repeat(8))],
    });
    const [from, to] = [safe, safe + bad.repeat(3)].map((text) => guard.tokenizer.encode(text).length);
    expect(from).toBeGreaterThan(120);
    expect(found.risk).not.toBe("Safe");
    expect(found.flaggedAt).toBeGreaterThan(from);
    expect(found.flaggedAt).toBeLessThanOrEqual(to);
  });

  test("beyond the most windows, or characters, is refused by name", async () => {
    for (const text of [BREAD.repeat(200), "a ".repeat(4.5e6)]) {
      await expect(guard.classify({ messages: [user("Hi."), said(text)] })).rejects.toMatchObject({
        code: "CONTEXT_EXCEEDED",
        message: expect.stringMatching(/maxWindows/),
      });
    }
  });
});
