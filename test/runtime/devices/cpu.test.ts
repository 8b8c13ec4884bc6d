import { expect, test, vi } from "vitest";
import { cpu } from "../../../src/runtime/devices/cpu.js";

test("stretches of a block are copied and nothing else, without a view of the block, which would count as its size", () => {
  const block = cpu.allocate(64);
  const bytes = new Uint8Array(block.view());
  bytes.set(Array.from({ length: 64 }, (_, i) => i));
  const view = vi.spyOn(block, "view");
  cpu.copyRows(block, { from: 1, to: 33, pitch: 8, width: 3, height: 3 });
  expect(view).not.toHaveBeenCalled();
  const expected = Array.from({ length: 64 }, (_, i) => i);
  for (const row of [0, 8, 16]) for (const at of [1, 2, 3]) expected[32 + row + at] = row + at;
  expect([...bytes]).toEqual(expected);
  block.free();
});
