import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { plan } from "../../src/moderation/window-plan.js";

describe("how a response goes into a context that holds less of it", () => {
  test("what fits goes on where it was", () => {
    expect(plan(0, 10, 4, 6)).toEqual([{ start: 0, from: 4, to: 10 }]);
    expect(plan(3, 10, 13, 0)).toEqual([{ start: 3, from: 13, to: 13 }]);
  });

  test("at the end of the room it goes on behind the newer half", () => {
    expect(plan(0, 10, 10, 1)).toEqual([{ start: 5, from: 10, to: 11 }]);
    expect(plan(0, 9, 9, 1)).toEqual([{ start: 5, from: 9, to: 10 }]);
  });

  test("what comes at once fills the room, and slides as often as it must", () => {
    expect(plan(0, 10, 8, 9)).toEqual([
      { start: 0, from: 8, to: 10 },
      { start: 5, from: 10, to: 15 },
      { start: 10, from: 15, to: 17 },
    ]);
  });

  test("what replaces tokens that the context no longer holds is read behind half a context of older ones", () => {
    expect(plan(20, 10, 17, 2)).toEqual([{ start: 12, from: 17, to: 19 }]);
    expect(plan(20, 10, 2, 2)).toEqual([{ start: 0, from: 2, to: 4 }]);
  });

  test("a context with room for a single token holds each in turn", () => {
    expect(plan(0, 1, 0, 2)).toEqual([
      { start: 0, from: 0, to: 1 },
      { start: 1, from: 1, to: 2 },
    ]);
  });

  test("every token goes in once and in order, in a window that has room for it and half a context before it", () => {
    const cases = fc.record({
      start: fc.nat(50),
      room: fc.integer({ min: 1, max: 20 }),
      back: fc.nat(70),
      count: fc.nat(60),
    });
    fc.assert(
      fc.property(cases, ({ start, room, back, count }) => {
        const from = Math.max(0, start + room - back);
        const steps = plan(start, room, from, count);
        expect(steps[0].from).toBe(from);
        expect(steps.at(-1)?.to).toBe(from + count);
        for (const [i, step] of steps.entries()) {
          const before = steps[i - 1] ?? { start, to: from };
          expect(step.from).toBe(before.to);
          expect(step.start).toBeGreaterThanOrEqual(0);
          expect(step.start).toBeLessThanOrEqual(step.from);
          expect(step.to).toBeLessThanOrEqual(step.start + room);
          if (count > 0) expect(step.to).toBeGreaterThan(step.from);
          if (step.start !== before.start) {
            expect(step.start).toBe(Math.max(0, step.from - Math.floor(room / 2)));
            const held = before.start <= step.from && step.from < before.start + room;
            expect(held && i === 0).toBe(false);
          }
        }
      }),
    );
  });
});
