import { expect, test, vi } from "vitest";
import { Binding } from "../../src/runtime/binding.js";
import { findKernels, mustWidenBytes } from "../../src/runtime/integer-kernels.js";
import { Session } from "../../src/runtime/session.js";

const weights = vi.hoisted((): Int8Array[] => []);
vi.mock("../../src/onnx/model.js", async (original) => {
  const real = await original<typeof import("../../src/onnx/model.js")>();
  const encodeModel: typeof real.encodeModel = (model) => {
    weights.push(new Int8Array((model.graph.tensors![0].data as Uint8Array).buffer));
    return real.encodeModel(model);
  };
  return { ...real, encodeModel };
});

test("some kernel is exact here, and the answer is kept", async () => {
  const answer = await mustWidenBytes();
  const load = vi.spyOn(Session, "loadBytes");
  expect(await mustWidenBytes()).toBe(answer);
  expect(load).not.toHaveBeenCalled();
  load.mockRestore();
});

test("weights whose sums fit 16 bits are asked about on their own", async () => {
  const load = vi.spyOn(Session, "loadBytes");
  const answer = await mustWidenBytes(true);
  expect(load).toHaveBeenCalled();
  // Where the fast kernels are exact with any weights, they are with these.
  if (!(await mustWidenBytes())) expect(answer).toBe(false);
  load.mockRestore();
});

test("the weights that kernels are tried with tell those apart that sum pairs of products in 16 bits", async () => {
  weights.length = 0;
  await findKernels(false);
  const any = weights.at(-1)!;
  await findKernels(true);
  const fitting = weights.at(-1)!;
  const columns = Array.from({ length: WIDTH }, (_, column) => column);
  const exact = (bytes: Int8Array, from: number) =>
    columns.every((column) => sumInPairs(bytes, column, from) === 255 * sum(bytes, column));
  expect(exact(any, 0)).toBe(false);
  expect(exact(fitting, 0)).toBe(true);
  // A kernel that begins its pairs at odd rows would be found out.
  expect(exact(fitting, 1)).toBe(false);
});

const WIDTH = 64;

/** What a kernel without VNNI makes of a column and bytes of 255: sums of two products are cut off at 16 bits. */
function sumInPairs(bytes: Int8Array, column: number, from: number): number {
  const at = (row: number) => bytes[row * WIDTH + column] ?? 0;
  let total = 255 * (from === 1 ? at(0) : 0);
  for (let row = from; row * WIDTH < bytes.length; row += 2) {
    total += Math.max(-(2 ** 15), Math.min(255 * (at(row) + at(row + 1)), 2 ** 15 - 1));
  }
  return total;
}

function sum(bytes: Int8Array, column: number): number {
  let total = 0;
  for (let i = column; i < bytes.length; i += WIDTH) total += bytes[i];
  return total;
}

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
