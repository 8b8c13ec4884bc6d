import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type SlotHolder, SlotWatch } from "../../src/moderation/slot-watch.js";

const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  warned.mockClear();
});
afterEach(() => vi.useRealTimers());

class Holder implements SlotHolder {
  readonly openedAt = performance.now();
  usedAt = this.openedAt;
  close!: (reason?: unknown) => void;
  readonly closed = new Promise((resolve) => {
    this.close = resolve;
  });

  constructor(public waiting: boolean) {}
}

function watch(...waiting: boolean[]) {
  const slots = new SlotWatch<Holder>();
  const holders = waiting.map((waits) => new Holder(waits));
  for (const holder of holders) slots.add(holder);
  return { slots, holders };
}

test("a stream that waits for long is worth one warning, with how many hold slots and since when", async () => {
  const { slots } = watch(false, false);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(warned).not.toHaveBeenCalled();
  slots.add(new Holder(true));
  await vi.advanceTimersByTimeAsync(4_999);
  expect(warned).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(warned).toHaveBeenCalledTimes(1);
  const [message, options] = warned.mock.calls[0] as unknown as [string, object];
  expect(options).toEqual({ type: "Qwen3GuardWarning", code: "QWEN3GUARD_SLOTS_HELD" });
  expect(message).toMatch(
    /wait for a slot of the guard: 1, the longest for 5 s. Slots held: 2, the longest for 65 s/,
  );
  slots.add(new Holder(true));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(warned).toHaveBeenCalledTimes(1);
});

test("one that gets its slot soon is not, and the next is looked at all the same", async () => {
  const { slots, holders } = watch(false, true);
  await vi.advanceTimersByTimeAsync(3_000);
  holders[1].waiting = false;
  slots.add(new Holder(true));
  await vi.advanceTimersByTimeAsync(4_000);
  expect(warned).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(4_000);
  expect(warned).toHaveBeenCalledTimes(1);
});

test("a process that only waits lives until it was told, and on where idle streams are closed", async () => {
  const { slots } = watch(false, true);
  const closing = new SlotWatch<Holder>(true);
  for (const waits of [false, true]) closing.add(new Holder(waits));
  await vi.advanceTimersByTimeAsync(20_000);
  expect(warned).toHaveBeenCalledTimes(2);
  expect([...slots].length).toBe(2);
  expect(vi.getTimerCount()).toBe(1);
});

test("nothing is left behind when all streams have ended", async () => {
  const { slots, holders } = watch(false, true);
  for (const holder of holders) holder.close();
  await vi.advanceTimersByTimeAsync(0);
  expect([...slots]).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});
