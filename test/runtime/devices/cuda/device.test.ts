import { beforeEach, expect, test, vi } from "vitest";
import type { CallThread } from "../../../../src/runtime/call-thread.js";
import { CudaDevice } from "../../../../src/runtime/devices/cuda/device.js";
import type { RecordingMode } from "../../../../src/runtime/devices/device.js";

const calls = vi.hoisted(() => [] as string[]);
vi.mock("../../../../src/runtime/devices/cuda/runtime.js", () => {
  const runtime = {
    call: (name: string) => void calls.push(name),
    create: (name: string) => {
      calls.push(name);
      return 1n;
    },
    callAsync: async (name: string) => void calls.push(`${name} on a worker`),
    callOn: async (_: unknown, name: string, ...args: unknown[]) =>
      void calls.push([name, ...args].join(" ")),
    createOn: async (_: unknown, name: string) => {
      calls.push(name);
      return 1n;
    },
    forgetErrors: async () => void calls.push("cudaGetLastError"),
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

const THREAD = {} as CallThread;

test.each([0, 1])("the thread that runs keep to is given GPU %i", async (index) => {
  const device = await CudaDevice.open({ kind: "cuda", index });
  calls.length = 0;
  await device.prepareThread(THREAD);
  expect(calls).toEqual([`cudaSetDevice ${index}`]);
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
    const fail = async () => {
      throw new Error("no kernel");
    };
    await expect(recorder.record(fail, mode)).rejects.toThrow("no kernel");
    await recorder.recover();
    const { capture } = mode as RecordingMode & { capture: number };
    expect(calls.filter((name) => name.startsWith("cuda"))).toEqual([
      expect.stringMatching(new RegExp(`^cudaStreamBeginCapture \\d+ ${capture}$`)),
      "cudaStreamEndCapture",
      "cudaGraphDestroy",
      "cudaGetLastError",
    ]);
  }
});
