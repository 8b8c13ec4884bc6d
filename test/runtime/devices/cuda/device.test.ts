import { beforeEach, expect, test, vi } from "vitest";
import { CudaDevice } from "../../../../src/runtime/devices/cuda/device.js";

const calls = vi.hoisted(() => [] as string[]);
vi.mock("../../../../src/runtime/devices/cuda/runtime.js", () => {
  const runtime = {
    call: (name: string) => void calls.push(name),
    create: (name: string) => {
      calls.push(name);
      return 1n;
    },
    callAsync: async (name: string) => void calls.push(`${name} on a worker`),
    forgetError: () => calls.push("cudaGetLastError"),
  };
  const onDevice = ({ index }: { index: number }) => {
    calls.push(`device ${index}`);
    return runtime;
  };
  return { cudaRuntime: () => runtime, onDevice };
});
vi.mock("../../../../src/runtime/devices/cuda/files.js", async (original) => ({
  ...(await original<typeof import("../../../../src/runtime/devices/cuda/files.js")>()),
  inspectCuda: () => ({
    driver: {
      devices: [
        { index: 0, name: "NVIDIA H100", capability: "9.0" },
        { index: 1, name: "NVIDIA H100", capability: "9.0" },
        { index: 2, name: "NVIDIA B200", capability: "10.0" },
      ],
    },
  }),
}));

beforeEach(() => {
  calls.length = 0;
});

test("on another GPU than the first, a run is started by the thread that was given the device", async () => {
  expect((await CudaDevice.open({ kind: "cuda", index: 0 })).start).toBeUndefined();
  const second = await CudaDevice.open({ kind: "cuda", index: 1 });
  calls.length = 0;
  await second.start!(() => void calls.push("run"));
  expect(calls).toEqual(["device 1", "run", "cudaStreamSynchronize on a worker"]);
});

test("a GPU without machine code is refused, though others have some", async () => {
  await expect(CudaDevice.open({ kind: "cuda", index: 2 })).rejects.toMatchObject({
    code: "GPU_UNSUPPORTED",
    message: expect.stringContaining("cuda:2 (NVIDIA B200) is of 10.0"),
  });
});

test("each way to record is another mode of capture; after a failure CUDA's error is asked for", async () => {
  const { recorder } = await CudaDevice.open({ kind: "cuda", index: 0 });
  expect(recorder.modes.map(({ name, copiesResults }) => [name, copiesResults])).toEqual([
    ["thread-local", false],
    ["relaxed", false],
    ["relaxed, results copied", true],
  ]);
  for (const mode of recorder.modes) {
    calls.length = 0;
    const fail = () => {
      throw new Error("no kernel");
    };
    expect(() => recorder.record(fail, mode)).toThrow("no kernel");
    recorder.recover();
    expect(calls.filter((name) => name.startsWith("cuda"))).toEqual([
      "cudaStreamBeginCapture",
      "cudaStreamEndCapture",
      "cudaGraphDestroy",
      "cudaGetLastError",
    ]);
  }
});
