import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { DeviceError } from "../../../src/errors.js";
import { cpu } from "../../../src/runtime/devices/cpu.js";
import { CudaDevice } from "../../../src/runtime/devices/cuda/device.js";
import type { Device } from "../../../src/runtime/devices/device.js";
import { InputBuffer } from "../../../src/runtime/input-buffer.js";
import type { Memory } from "../../../src/runtime/memory.js";
import { Tensor } from "../../../src/runtime/tensor.js";

const GPU = { kind: "cuda", index: 1 } as const;

/** A GPU of 1,000 bytes, at made-up addresses; host memory of it is real, so that it can be viewed. */
const gpu = vi.hoisted(() => ({
  used: 0,
  calls: [] as string[],
  host: [] as { free(): void }[],
  uploads: [] as unknown[][],
}));
vi.mock("../../../src/runtime/devices/cuda/stream.js", () => ({
  CudaStream: {
    create: async (id: unknown) => ({ id, upload: (...args: unknown[]) => gpu.uploads.push(args) }),
  },
}));
vi.mock("../../../src/runtime/devices/cuda/runtime.js", () => ({
  onDevice: (id: { index: number }) => ({
    call: (name: string, ...args: unknown[]) => void gpu.calls.push(`${id.index} ${name} ${args.join(" ")}`),
    create: (name: string, bytes: number) => {
      gpu.calls.push(`${id.index} ${name} ${bytes}`);
      if (name === "cudaHostAlloc") {
        const memory = cpu.allocate(bytes);
        gpu.host.push(memory);
        return memory.address;
      }
      if (gpu.used + bytes > 1000)
        throw new DeviceError("OUT_OF_MEMORY", "cudaMalloc failed: out of memory (2).");
      gpu.used += bytes;
      return 4096n;
    },
  }),
  deviceMemory: () => ({ free: 3 * 2 ** 20, total: 8 * 2 ** 20 }),
}));

beforeEach(() => {
  gpu.calls.length = 0;
  for (const memory of gpu.host.splice(0)) memory.free();
});

describe("on the CPU", () => {
  test("what is written to an inbox is where the kernels read", () => {
    const inbox = new InputBuffer(16, cpu);
    new Int32Array(inbox.view())[3] = 42;
    inbox.publish();
    expect(new Int32Array(inbox.memory.view())[3]).toBe(42);
    expect(gpu.calls).toEqual([]);
    inbox.free();
  });

  test("shared memory is plain memory", () => {
    const memory = cpu.shared(64);
    expect(memory.view().byteLength).toBe(64);
    memory.free();
  });

  test("tensors do not leave their memory", () => {
    const memory = cpu.allocate(64);
    Tensor.view(memory, 32, "float32", [2, 4]).release();
    expect(() => Tensor.view(memory, 36, "float32", [2, 4])).toThrow(RangeError);
    expect(() => Tensor.view(memory, -4, "float32", [1])).toThrow(RangeError);
    memory.free();
  });
});

describe("on a GPU", () => {
  let device: Device;
  beforeAll(async () => {
    device = await CudaDevice.open(GPU);
  });

  test("memory is zeroed, and its host cannot look into it", () => {
    const memory = device.allocate(100);
    expect(gpu.calls).toEqual(["1 cudaMalloc 100", "1 cudaMemset 4096 0 100", "1 cudaStreamSynchronize "]);
    expect(() => memory.view()).toThrow(TypeError);
    memory.free();
    expect(gpu.calls.at(-1)).toBe("1 cudaFree 4096");
  });

  test("too much is an error with numbers", () => {
    expect(() => device.allocate(2 * 2 ** 20)).toThrow(
      expect.objectContaining({
        code: "OUT_OF_MEMORY",
        message: expect.stringMatching(
          /^Could not reserve 2 MiB .* cuda:1, where 3 MiB of 8 MiB are free\. Lower /,
        ),
      }),
    );
  });

  test("an inbox is written on the host and uploaded when it is published", () => {
    const inbox = new InputBuffer(64, device);
    gpu.uploads.length = 0;
    new Int32Array(inbox.view())[0] = 7;
    expect(gpu.uploads).toEqual([]);
    inbox.publish(8);
    inbox.publish();
    const [host] = gpu.host as unknown as Memory[];
    expect(gpu.uploads).toEqual([
      [4096n, host.address, 8],
      [4096n, host.address, 64],
    ]);
  });
});
