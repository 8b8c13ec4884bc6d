import { expect, test, vi } from "vitest";
import { longRanges, longStepLengths } from "../../src/engine/long-steps.js";

const lengthsOf = (value: string) => {
  vi.stubEnv("QWEN3GUARD_LONG_STEPS", value);
  return longStepLengths();
};

test.each([
  ["", []],
  ["2", [2]],
  ["2,4,8", [2, 4, 8]],
])("long steps that are asked for with %o", (value, lengths) => {
  expect(lengthsOf(value)).toEqual(lengths);
});

test.each(["1", "0", "-2", "9", "2,2", "4,2", "2.5", "two", "2;4"])(
  "long steps %o are refused by name",
  (value) => {
    expect(() => lengthsOf(value)).toThrow(
      expect.objectContaining({
        code: "OPTION_INVALID",
        message: expect.stringContaining("QWEN3GUARD_LONG_STEPS"),
      }),
    );
  },
);

test("each of the first 16 rows has them, alone", () => {
  expect(longRanges(2, [2, 4])).toEqual([
    { first: 0, count: 1, length: 2 },
    { first: 0, count: 1, length: 4 },
    { first: 1, count: 1, length: 2 },
    { first: 1, count: 1, length: 4 },
  ]);
  expect(longRanges(64, [2])).toHaveLength(16);
  expect(longRanges(64, [])).toEqual([]);
});
