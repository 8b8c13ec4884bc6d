import { expect, test } from "vitest";
import { defaultSlots, type MemoryBudget, memoryBudget, requireMemory } from "../../src/engine/sizing.js";
import { cpu } from "../../src/runtime/devices/cpu.js";

const GIB = 2 ** 30;
const gpu: MemoryBudget = { bytes: 10 * GIB, reserved: GIB, name: "cuda:1", usual: 64, takenAsFilled: false };

test.each([
  ["half of the memory", GIB, 5],
  ["the usual number", GIB / 100, 64],
  ["one where half holds none", 7 * GIB, 1],
])("by default: %s", (_, slotBytes, slots) => {
  expect(defaultSlots(slotBytes, gpu)).toBe(slots);
});

test("what fits exactly fits", () => {
  requireMemory(9, GIB, gpu);
  expect(() => requireMemory(9, GIB + 1, gpu)).toThrow(expect.objectContaining({ code: "OUT_OF_MEMORY" }));
});

test("the error says what is needed, what is there, and how many would fit", () => {
  expect(() => requireMemory(32, GIB, gpu)).toThrow(
    "32 streams of maxTokens take 32.0 GiB of cache on cuda:1, where 9.0 GiB can be had: room for 9. " +
      "Lower maxStreams or maxTokens, or free memory there.",
  );
  expect(() => requireMemory(1, GIB, { ...gpu, bytes: GIB / 2 })).toThrow(
    /where 0\.0 GiB can be had: room for 0\./,
  );
});

test("on the CPU all memory counts: slots take it only as they fill", () => {
  expect(memoryBudget(cpu)).toMatchObject({ reserved: 0, name: "cpu", usual: 16 });
});
