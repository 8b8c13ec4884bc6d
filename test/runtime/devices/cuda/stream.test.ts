import { beforeEach, expect, test, vi } from "vitest";
import type { CallThread } from "../../../../src/runtime/call-thread.js";
import { CudaStream } from "../../../../src/runtime/devices/cuda/stream.js";

const THREAD = "its thread" as unknown as CallThread;
const calls = vi.hoisted(() => [] as string[]);
const given = vi.hoisted(() => [] as unknown[][]);
vi.mock("../../../../src/runtime/devices/cuda/runtime.js", () => {
  const call = (name: string, ...args: unknown[]) => {
    calls.push(name);
    given.push(args);
  };
  const create = (name: string) => {
    calls.push(name);
    return BigInt(calls.length);
  };
  const runtime = {
    call,
    create,
    callAsync: async (name: string) => call(name),
    callOn: async (thread: CallThread, name: string) => call(`${name} on ${thread}`),
    createOn: async (thread: CallThread, name: string) => create(`${name} on ${thread}`),
  };
  return { cudaRuntime: () => runtime, onDevice: () => runtime };
});
vi.mock("../../../../src/runtime/devices/cuda/files.js", async (original) => ({
  ...(await original<typeof import("../../../../src/runtime/devices/cuda/files.js")>()),
  inspectCuda: () => ({ driver: { devices: [{ index: 0, name: "NVIDIA H200", capability: "9.0" }] } }),
}));

beforeEach(() => {
  calls.length = 0;
});

test("a GPU that is not there is named, with those that are", async () => {
  await expect(CudaStream.create({ kind: "cuda", index: 1 })).rejects.toMatchObject({
    code: "CUDA_UNAVAILABLE",
    message: "There is no cuda:1. The driver shows cuda:0 (NVIDIA H200).",
  });
  expect(calls).toEqual([]);
});

test("every worker thread gets the device, whatever the number of threads", async () => {
  vi.stubEnv("UV_THREADPOOL_SIZE", "7");
  try {
    await CudaStream.create({ kind: "cuda", index: 0 });
    expect(calls).toEqual([...new Array(7).fill("cudaSetDevice"), "cudaStreamCreateWithFlags"]);
  } finally {
    vi.unstubAllEnvs();
  }
});

test("recorded work is done by one call", async () => {
  const stream = await CudaStream.create({ kind: "cuda", index: 0 });
  calls.length = 0;
  const graph = await stream.capture(async () => stream.upload(1n, 2n, 3), 1, THREAD);
  expect(calls).toEqual([
    "cudaStreamBeginCapture on its thread",
    "cudaMemcpyAsync",
    "cudaStreamEndCapture on its thread",
    "cudaGraphInstantiate",
    "cudaGraphUpload",
    "cudaGraphDestroy",
  ]);
  calls.length = 0;
  await graph.run();
  expect(calls).toEqual(["cudaGraphLaunch", "cudaStreamSynchronize"]);
});

test("a recording that fails ends, and the stream can be used again", async () => {
  const stream = await CudaStream.create({ kind: "cuda", index: 0 });
  calls.length = 0;
  const fail = async () => {
    throw new Error("no kernel");
  };
  await expect(stream.capture(fail, 2, THREAD)).rejects.toThrow("no kernel");
  expect(calls).toEqual([
    "cudaStreamBeginCapture on its thread",
    "cudaStreamEndCapture on its thread",
    "cudaGraphDestroy",
  ]);
});

test("rows within a block are copied by one pitched copy on the stream", async () => {
  const stream = await CudaStream.create({ kind: "cuda", index: 0 });
  calls.length = given.length = 0;
  stream.copyRows(1000n, { from: 10, to: 50, pitch: 100, width: 30, height: 4 });
  expect(calls).toEqual(["cudaMemcpy2DAsync"]);
  // To, pitch, from, pitch, width, height, device to device, stream.
  expect(given).toEqual([[1050n, 100, 1010n, 100, 30, 4, 3, stream.handle]]);
});
