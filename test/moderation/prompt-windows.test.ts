import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  intoWindows,
  lastWindow,
  longestConversation,
  type PromptWindow,
  planWindows,
  type WindowSizes,
  wholeWindow,
  windowSizes,
} from "../../src/moderation/prompt-windows.js";
import type { Prefix } from "../../src/tokenizer/chat-template/template.js";

const [START, END, BREAK, ROLE] = [1, 2, 3, 4];
/** What an answer begins with. */
const TAIL = [START, ROLE, BREAK];

/** A conversation of turns with so many tokens of content, each a number of its own. */
function conversation(contents: readonly number[]): Prefix {
  const ids: number[] = [];
  const turns = contents.map((content) => {
    const start = ids.length;
    ids.push(START, ROLE, BREAK);
    for (let i = 0; i < content; i++) ids.push(100 + ids.length);
    ids.push(END, BREAK);
    return { role: "user", start, body: start + 3, end: ids.length - 2, empty: content === 0 };
  });
  ids.push(...TAIL);
  return { ids, turns, promptIndex: turns.at(-1)?.end ?? null };
}

const SIZES: WindowSizes = { length: 24, overlap: 6, most: 100 };
const all = () => true;
const contents = fc.array(fc.nat(80), { minLength: 1, maxLength: 8 });
const windowsOf = (prefix: Prefix, counts: (turn: number) => boolean = all) =>
  planWindows(prefix, SIZES, counts, END);

/** Whether a verdict is read in a window behind all of some content. */
const isSeen = (windows: readonly PromptWindow[], content: readonly number[]) =>
  windows.some(({ ids, reads }) => {
    const at = ids.indexOf(content[0]);
    const last = at + content.length - 1;
    return at >= 0 && content.every((id, i) => ids[at + i] === id) && reads.some((read) => read.at > last);
  });

describe("how a conversation is cut that is longer than the context", () => {
  test("one turn that is longer than a window begins anew with its role in each, and is closed in each", () => {
    const { ids, turns } = conversation([40]);
    expect(windowsOf({ ids, turns, promptIndex: null })).toEqual([
      { ids: [...ids.slice(0, 24), END], reads: [{ at: 24, turn: 0, index: 24 }] },
      { ids: [START, ROLE, BREAK, ...ids.slice(18, 42), END], reads: [{ at: 27, turn: 0, index: 42 }] },
      { ids: [START, ROLE, BREAK, ...ids.slice(36)], reads: [{ at: 10, turn: 0, index: 43 }] },
    ]);
  });

  test("turns that do not count are read for their sake who do, and not at all where nobody needs them", () => {
    const prefix = conversation([60, 60, 2]);
    const windows = windowsOf(prefix, (turn) => turn === 2);
    expect(windows).toHaveLength(1);
    expect(windows[0].reads).toEqual([{ at: expect.any(Number), turn: 2, index: prefix.turns[2].end }]);
    expect(windows[0].ids.slice(-8)).toEqual(prefix.ids.slice(-8));
  });

  test("what goes with every request of a conversation is judged in windows too, whatever the scope", () => {
    const prefix = conversation([30, 30, 30, 30]);
    prefix.turns[0].standing = true;
    prefix.turns[2].role = "assistant";
    const { windows } = intoWindows(prefix, 100, SIZES, {
      scope: "turn",
      close: END,
      span: null,
      answerToo: true,
    });
    const judged = new Set(windows.flatMap(({ reads }) => reads.map(({ turn }) => turn)));
    expect([...judged]).toEqual([0, 3]);
  });

  test("what is in one window is in it as it is, so that nothing changes for what fits", () => {
    const prefix = conversation([3, 4]);
    expect(wholeWindow(prefix)).toEqual(windowsOf(prefix)[0]);
    expect(wholeWindow(prefix).ids).toBe(prefix.ids);
  });

  test("every end of a turn that counts is read once, and every cut of one, in order", () => {
    fc.assert(
      fc.property(contents, fc.nat(255), (lengths, mask) => {
        const prefix = conversation(lengths);
        const counts = (turn: number) => ((mask >> turn) & 1) === 1;
        const reads = windowsOf(prefix, counts).flatMap(({ reads }) => reads);
        const indexes = reads.map(({ index }) => index);
        expect(indexes).toEqual([...indexes].sort((a, b) => a - b));
        expect(reads.every(({ turn }) => counts(turn))).toBe(true);
        const ends = prefix.turns.filter((_, turn) => counts(turn)).map(({ end }) => end);
        for (const end of ends) expect(indexes).toContain(end);
      }),
    );
  });

  test("at each place that is read a turn ends, in windows that have room for an answer behind them", () => {
    fc.assert(
      fc.property(contents, (lengths) => {
        for (const { ids, reads } of windowsOf(conversation(lengths))) {
          for (const { at } of reads) expect(ids[at]).toBe(END);
          expect(ids.length).toBeLessThanOrEqual(SIZES.length + TAIL.length + 1);
        }
      }),
    );
  });

  test("every stretch that is no longer than the overlap lies whole in a window with a verdict behind it", () => {
    fc.assert(
      fc.property(contents, fc.integer({ min: 1, max: SIZES.overlap }), (lengths, length) => {
        const prefix = conversation(lengths);
        const windows = windowsOf(prefix);
        for (const { body, end } of prefix.turns) {
          for (let from = body; from + length <= end; from++) {
            expect(isSeen(windows, prefix.ids.slice(from, from + length))).toBe(true);
          }
        }
      }),
    );
  });

  test("every token that counts is judged behind the overlap at least, or behind all that there is", () => {
    fc.assert(
      fc.property(contents, (lengths) => {
        const prefix = conversation(lengths);
        const windows = windowsOf(prefix);
        for (const { body, end } of prefix.turns) {
          for (let index = body; index < end; index++) {
            const before = windows
              .filter((window) => isSeen([window], [prefix.ids[index]]))
              .map(({ ids }) => ids.indexOf(prefix.ids[index]));
            expect(Math.max(...before)).toBeGreaterThanOrEqual(Math.min(index, SIZES.overlap));
          }
        }
      }),
    );
  });

  test("all windows together hold no more than the stated bound, however the conversation is made", () => {
    fc.assert(
      fc.property(contents, (lengths) => {
        const prefix = conversation(lengths);
        const windows = windowsOf(prefix);
        const stride = SIZES.length - SIZES.overlap;
        const most = Math.max(1, Math.ceil((prefix.ids.length - SIZES.overlap) / stride));
        expect(windows.length).toBeLessThanOrEqual(most);
        const fed = windows.reduce((sum, { ids }) => sum + ids.length, 0);
        expect(fed).toBeLessThanOrEqual(most * (SIZES.length + TAIL.length + 1));
        const { most: windowsAtMost } = { ...SIZES, most };
        if (prefix.ids.length > SIZES.length) {
          expect(longestConversation({ ...SIZES, most: windowsAtMost })).toBeGreaterThanOrEqual(
            prefix.ids.length,
          );
        }
      }),
    );
  });

  test("the windows of a conversation that goes on are those that it had, but for the last", () => {
    fc.assert(
      fc.property(contents, fc.nat(60), (lengths, more) => {
        const before = windowsOf(conversation(lengths)).slice(0, -1);
        const after = windowsOf(conversation([...lengths, more]));
        for (const [i, window] of before.entries()) {
          // A turn that ended where a window did may go on in it as well.
          expect(after[i].ids.slice(0, SIZES.length - 6)).toEqual(window.ids.slice(0, SIZES.length - 6));
        }
      }),
    );
  });

  test("what an answer goes on behind is the last window as it is", () => {
    fc.assert(
      fc.property(contents, (lengths) => {
        const prefix = conversation(lengths);
        expect(lastWindow(prefix, SIZES)).toEqual(windowsOf(prefix).at(-1)?.ids);
      }),
    );
  });

  test("three quarters of the context are a window's, an eighth is common to two", () => {
    expect(windowSizes(8192, 8)).toEqual({ length: 6144, overlap: 1024, most: 8 });
    expect(windowSizes(8192, 1)).toBeNull();
    expect(windowSizes(255, 8)).toBeNull();
    expect(longestConversation({ length: 6144, overlap: 1024, most: 8 })).toBe(41_984);
  });
});
