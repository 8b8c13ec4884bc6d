import { expect, test, vi } from "vitest";
import { requireExactIntegerKernels } from "../../src/engine/integer-kernels.js";
import { Binding } from "../../src/ort/binding.js";

test("the largest bytes multiply exactly here", async () => {
  await requireExactIntegerKernels();
});

test("a kernel that computes something else is found out", async () => {
  // Nothing runs, so the output stays what the memory held.
  const run = vi.spyOn(Binding.prototype, "run").mockResolvedValue();
  await expect(requireExactIntegerKernels()).rejects.toMatchObject({ code: "KERNEL_INEXACT" });
  run.mockRestore();
});
