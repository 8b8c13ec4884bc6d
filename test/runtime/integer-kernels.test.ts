import { expect, test, vi } from "vitest";
import { Binding } from "../../src/runtime/binding.js";
import { findKernels, mustWidenBytes } from "../../src/runtime/integer-kernels.js";
import { Session } from "../../src/runtime/session.js";

test("some kernel is exact here, and the answer is kept", async () => {
  const answer = await mustWidenBytes();
  const load = vi.spyOn(Session, "loadBytes");
  expect(await mustWidenBytes()).toBe(answer);
  expect(load).not.toHaveBeenCalled();
  load.mockRestore();
});

test("where the fast kernel is inexact, the careful one is taken", async () => {
  const original = Session.loadBytes;
  const inexact = new Set<Session>();
  const load = vi.spyOn(Session, "loadBytes").mockImplementation(async (model, options) => {
    const session = await original(model, options);
    if (!options.widenBytes) inexact.add(session);
    return session;
  });
  const run = Binding.prototype.run;
  // Nothing runs for the fast kernel, so its output stays what the memory held.
  const spy = vi.spyOn(Binding.prototype, "run").mockImplementation(function (this: Binding) {
    return inexact.size > 0 && load.mock.calls.length === 1 ? Promise.resolve() : run.call(this);
  });
  expect(await findKernels()).toBe(true);
  expect(load.mock.calls.map(([, { widenBytes }]) => widenBytes)).toEqual([false, true]);
  load.mockRestore();
  spy.mockRestore();
});

test("where none is exact, the format is refused", async () => {
  const run = vi.spyOn(Binding.prototype, "run").mockResolvedValue();
  await expect(findKernels()).rejects.toMatchObject({ code: "KERNEL_INEXACT" });
  run.mockRestore();
});
