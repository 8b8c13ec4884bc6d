import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BuddyRanges, NearbyRows, type RowPlan, type RowRange } from "../../src/engine/rows.js";

const nothing = () => 0;
const rowsOf = (ranges: RowRange[]) =>
  ranges.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));
const text = (ranges: RowRange[]) => ranges.map(({ first, count }) => `${first}+${count}`);

/** Slots, and some of their rows, ascending. */
const cases = fc
  .integer({ min: 1, max: 300 })
  .chain((slots) =>
    fc.record({
      slots: fc.constant(slots),
      rows: fc.uniqueArray(fc.integer({ min: 0, max: slots - 1 }), { minLength: 1 }),
      affordable: fc.integer({ min: 0, max: 10_000 }),
    }),
  )
  .map((found) => ({ ...found, rows: found.rows.sort((a, b) => a - b) }));

describe.each<[string, (slots: number, affordable: number) => RowPlan]>([
  ["NearbyRows", (_, affordable) => new NearbyRows(affordable % 20)],
  ["BuddyRanges", (slots, affordable) => new BuddyRanges(slots, affordable)],
])("%s", (_, make) => {
  test("every row runs once, and no range leaves the slots or meets another", () => {
    fc.assert(
      fc.property(cases, ({ slots, rows, affordable }) => {
        const covered = rowsOf(make(slots, affordable).group(rows, (row) => row * 7));
        expect(covered).toEqual([...new Set(covered)].sort((a, b) => a - b));
        expect(covered.at(-1)).toBeLessThan(slots);
        expect(covered).toEqual(expect.arrayContaining(rows));
      }),
    );
  });
});

describe("NearbyRows", () => {
  test.each([
    [0, [0, 1, 2, 5], ["0+3", "5+1"]],
    [2, [0, 1, 2, 5], ["0+6"]],
    [2, [3, 7, 10], ["3+1", "7+4"]],
  ])("gaps of up to %i", (gap, rows, expected) => {
    expect(text(new NearbyRows(gap).group(rows))).toEqual(expected);
  });
});

describe("BuddyRanges", () => {
  test("only recorded ranges are used, and they are few", () => {
    fc.assert(
      fc.property(cases, ({ slots, rows, affordable }) => {
        const plan = new BuddyRanges(slots, affordable);
        const ranges = text(plan.ranges());
        expect(ranges).toEqual([...new Set(ranges)]);
        expect(ranges.length).toBeLessThan(50);
        expect(ranges).toEqual(expect.arrayContaining(text(plan.group(rows, (row) => row))));
      }),
    );
  });

  test("larger ranges come first: memory they take serves the smaller", () => {
    const counts = new BuddyRanges(100, 0).ranges().map(({ count }) => count);
    expect(counts).toEqual(counts.toSorted((a, b) => b - a));
    expect(counts.at(0)).toBe(100);
    expect(counts.at(-1)).toBe(1);
  });

  test("a lone row runs alone; among many slots with a few neighbours", () => {
    expect(text(new BuddyRanges(16, 0).group([9], nothing))).toEqual(["9+1"]);
    expect(text(new BuddyRanges(256, 0).group([0], nothing))).toEqual(["0+1"]);
    expect(text(new BuddyRanges(256, 0).group([200], nothing))).toEqual(["192+16"]);
  });

  test("all rows are one run", () => {
    for (const slots of [1, 5, 64, 100]) {
      const all = Array.from({ length: slots }, (_, row) => row);
      expect(text(new BuddyRanges(slots, 0).group(all, () => 1000))).toEqual([`0+${slots}`]);
    }
  });

  test("idle rows are run along while they hold less than all weights weigh", () => {
    const plan = new BuddyRanges(8, 3000);
    expect(text(plan.group([0, 7], () => 500))).toEqual(["0+8"]);
    expect(text(plan.group([0, 7], () => 501))).toEqual(["0+1", "7+1"]);
    expect(text(plan.group([0, 1, 5], (row) => (row === 4 ? 9000 : 0)))).toEqual(["0+2", "5+1"]);
  });
});
