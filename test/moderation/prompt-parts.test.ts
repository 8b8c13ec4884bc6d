import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { closerWindows, partsOf } from "../../src/moderation/prompt-parts.js";
import { intoWindows } from "../../src/moderation/prompt-windows.js";
import { ChatTemplate, type Message, type Prefix } from "../../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../../src/tokenizer/tokenizer.js";
import { DEFAULT_MODEL } from "../support/model.js";

let tokenizer: Tokenizer;
let template: ChatTemplate;
beforeAll(async () => {
  tokenizer = await Tokenizer.load(DEFAULT_MODEL);
  template = await ChatTemplate.load(DEFAULT_MODEL, tokenizer);
});

const STANDING: Message = { role: "user", content: "search\nSearches the web.", standing: true };
const system = fc.record({ role: fc.constant("system"), content: fc.string() });
const spoken = fc.record({ role: fc.constantFrom("user", "assistant", "tool"), content: fc.string() });
const last = fc.record({ role: fc.constantFrom("user", "tool"), content: fc.string() });
const conversations = fc
  .tuple(fc.array(system, { maxLength: 1 }), fc.array(spoken, { maxLength: 6 }), last)
  .map(([first, middle, end]): Message[] => [...first, { role: "user", content: "Hi." }, ...middle, end]);

function withStanding(messages: readonly Message[]): Message[] {
  const at = messages.findIndex(({ role }) => role !== "system");
  return messages.toSpliced(at, 0, STANDING);
}

describe("what goes with each request", () => {
  test("is taken out of a conversation as if it had never been in it, and stands alone", () => {
    fc.assert(
      fc.property(conversations, (messages) => {
        const { said, standing } = partsOf(template.prefix(withStanding(messages)));
        const { ids, turns } = template.prefix(messages);
        expect(said.ids).toEqual(ids);
        expect(said.turns.map(({ start, body, end }) => ({ start, body, end }))).toEqual(
          turns.map(({ start, body, end }) => ({ start, body, end })),
        );
        const alone = template.prefix([STANDING]);
        expect(standing?.ids).toEqual(alone.ids.slice(0, alone.turns[0].end + 1));
      }),
    );
  });

  test("has its turns and places numbered as in the whole", () => {
    fc.assert(
      fc.property(conversations, (messages) => {
        const whole = template.prefix(withStanding(messages));
        const { said, standing } = partsOf(whole);
        for (const part of [said, standing]) {
          for (const [i, id] of (part?.ids ?? []).entries())
            expect(whole.ids[part?.placeOf(i) ?? -1]).toBe(id);
          for (const { turn, end } of part?.turns ?? [])
            expect(part?.placeOf(end)).toBe(whole.turns[turn].end);
        }
        expect([...said.turns, ...(standing?.turns ?? [])]).toHaveLength(whole.turns.length);
      }),
    );
  });

  test("stays where nothing else is said", () => {
    const prefix = template.prefix([STANDING]);
    const { said, standing } = partsOf(prefix);
    expect(said.ids).toBe(prefix.ids);
    expect(standing).toBeNull();
  });

  test("is judged in each request: it has a verdict of its own, whatever the scope", () => {
    const prefix = template.prefix(withStanding([{ role: "user", content: "Hi." }]));
    for (const scope of ["turn", "conversation"] as const) {
      const { windows } = intoWindows(prefix, 2048, null, { scope, close: 1, span: null, answerToo: true });
      expect(windows.map(({ reads }) => reads.map(({ turn }) => turn))).toEqual([[0], [1]]);
      expect(windows.flatMap(({ reads }) => reads.map(({ index }) => index))).toEqual(
        prefix.turns.map(({ end }) => end),
      );
    }
  });
});

const SPAN = 16;
const LONGEST = 200;
const word = (content: number) => "a ".repeat(content).trim();
const all = () => true;

/** The closer windows of a conversation in which what is given of each role has so many words. */
function closer(turns: readonly (readonly [string, number])[], counts: (turn: number) => boolean = all) {
  const prefix = template.prefix(turns.map(([role, words]) => ({ role, content: word(words) })));
  return { prefix, ...closerWindows(partsOf(prefix).said, counts, SPAN, LONGEST, true) };
}

describe("a turn behind much else", () => {
  test("is read once more as if it were the conversation's first, and the answer goes on behind it", () => {
    const { prefix, windows, answers } = closer([
      ["system", 100],
      ["user", 5],
    ]);
    const alone = template.prefix([{ role: "user", content: word(5) }]);
    expect(windows).toEqual([
      {
        ids: alone.ids,
        reads: [{ at: alone.turns[0].end, turn: 1, index: prefix.turns[1].end, alone: true }],
      },
    ]);
    expect(answers).toBe(true);
  });

  test.each<[string, (readonly [string, number])[], (turn: number) => boolean]>([
    [
      "not where little stands before it",
      [
        ["system", 8],
        ["user", 5],
      ],
      all,
    ],
    [
      "not where it does not count",
      [
        ["system", 100],
        ["user", 5],
      ],
      (turn) => turn === 0,
    ],
    [
      "not where it is the assistant's",
      [
        ["user", 100],
        ["assistant", 5],
        ["user", 210],
      ],
      all,
    ],
    [
      "not where it is cut anyway",
      [
        ["system", 100],
        ["user", LONGEST],
      ],
      all,
    ],
  ])("%s", (_, turns, counts) => {
    expect(closer(turns, counts)).toMatchObject({ windows: [], answers: false });
  });

  test("is read with its neighbours, as long as these are not much either", () => {
    const { windows } = closer([
      ["system", 100],
      ["user", 5],
      ["user", 4],
      ["user", 50],
      ["user", 3],
    ]);
    expect(windows.map(({ reads }) => reads.map(({ turn }) => turn))).toEqual([[1, 2], [3], [4]]);
  });

  test("stands behind no more than the span in one of its windows, whatever the conversation", () => {
    const turns = fc.array(
      fc.tuple(fc.constantFrom("user", "assistant", "tool"), fc.integer({ min: 0, max: 40 })),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(turns, (middle) => {
        const { prefix, windows } = closer([["system", 30], ["user", 1], ...middle, ["user", 2]]);
        const { said } = partsOf(prefix);
        for (const [i, { role, start, end }] of said.turns.entries()) {
          if (role === "assistant") continue;
          const own = windows.filter(({ reads }) => reads.some(({ turn }) => turn === i));
          expect(own).toHaveLength(start > SPAN ? 1 : 0);
          for (const { ids, reads } of own) {
            const { at } = reads.find(({ turn }) => turn === i) as { at: number };
            expect(at - (end - start)).toBeLessThanOrEqual(SPAN);
            expect(ids.slice(at - (end - start), at + 1)).toEqual(said.ids.slice(start, end + 1));
          }
        }
      }),
    );
  });

  test("is read ahead of what the answer goes on behind, which is last", () => {
    const prefix = template.prefix([
      { role: "system", content: word(60) },
      { role: "user", content: word(3) },
    ]) satisfies Prefix;
    const reading = { scope: "turn", close: 1, span: SPAN } as const;
    const { windows, short } = intoWindows(prefix, 2048, null, { ...reading, answerToo: true });
    expect(windows.map(({ reads }) => reads.map(({ alone = false }) => alone))).toEqual([
      [false, false],
      [true],
    ]);
    expect(windows[0].ids).toBe(prefix.ids);
    expect(windows[1].ids.at(-1)).toBe(prefix.ids.at(-1));
    expect(short).toBeNull();
    const official = intoWindows(prefix, 2048, null, { ...reading, answerToo: false });
    expect(official.windows.map(({ ids }) => ids)).toEqual([
      windows[1].ids.slice(0, prefix.turns[1].end + 1 - prefix.turns[1].start),
      prefix.ids,
    ]);
  });
});
