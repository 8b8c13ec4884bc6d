import { describe, expect, test } from "vitest";
import type { Logits } from "../../src/engine/logits.js";
import { WindowMemory } from "../../src/moderation/window-memory.js";

const window = (...ids: number[]) => ({ ids, reads: [{ at: ids.length - 1, turn: 0, index: 7 }] });
const given = (value: number): Logits[] => [{ promptRisk: Float32Array.of(value) }];

/** What is told of a window; null where it is not known. */
function told(memory: WindowMemory, key: string, ids: number[], index = 7) {
  const values: [number, number][] = [];
  const asked = { ids, reads: [{ at: ids.length - 1, turn: 0, index }] };
  const known = memory.under(key).tell(asked, (logits, at, read) => {
    values.push([logits.promptRisk[at], read.index]);
  });
  return known ? values : null;
}

describe("what is remembered of windows", () => {
  test("is told of the same ids under the same key, at the places of whoever asks", () => {
    const memory = new WindowMemory();
    memory.under("a").keep(window(1, 2, 3), given(0.5));
    expect(told(memory, "a", [1, 2, 3], 9)).toEqual([[0.5, 9]]);
    expect(told(memory, "a", [1, 2, 4])).toBeNull();
    expect(told(memory, "b", [1, 2, 3])).toBeNull();
    expect(told(memory, "", [1, 2, 3])).toBeNull();
    expect(memory.reusedTokens).toBe(3);
  });

  test("is not told where other places are read", () => {
    const memory = new WindowMemory();
    memory.under("a").keep(window(1, 2, 3), given(0.5));
    const other = { ids: [1, 2, 3], reads: [{ at: 1, turn: 0, index: 7 }] };
    expect(memory.under("a").tell(other, () => {})).toBe(false);
  });

  test("is bounded: what was not asked for longest goes first", () => {
    const memory = new WindowMemory();
    const recall = memory.under("a");
    for (let i = 0; i < 4096; i++) recall.keep(window(i), given(i));
    expect(told(memory, "a", [0])).toEqual([[0, 7]]);
    recall.keep(window(4096), given(1));
    expect(told(memory, "a", [0])).not.toBeNull();
    expect(told(memory, "a", [1])).toBeNull();
    expect(told(memory, "a", [4096])).not.toBeNull();
  });
});
