import { totalmem } from "node:os";
import { type Handle, ortApi } from "../api.js";
import { cFunction } from "../c-library.js";
import { Memory, memoryInfo, reserve } from "../memory.js";
import type { Device, SessionSettings } from "./device.js";
import { CPU } from "./device-id.js";

/**
 * How long a thread of the pool looks out for its next piece of work before it sleeps, in microseconds: enough for the
 * gaps within a run. By default it is milliseconds, which kept a core busy between two tokens and, where other work held
 * the other core, during them.
 */
const SPIN_US = "20";

let allocator: Handle | undefined;
let memmove: ReturnType<typeof cFunction> | undefined;

/**
 * The processor. Memory comes from ONNX Runtime's plain (not arena) allocator, which takes large blocks straight from the
 * operating system: pages that are never written cost address space, not RAM.
 */
export const cpu: Device = {
  id: CPU,
  defaults: { streams: 16, chunks: { sharedChunk: 32, loneChunk: 128, fewTokens: 1 } },

  allocate(bytes) {
    const api = ortApi();
    allocator ??= api.create("GetAllocatorWithDefaultOptions");
    const address = reserve(bytes, () => api.create("AllocatorAlloc", allocator, bytes));
    const free = () => api.call("AllocatorFree", allocator, address);
    return new Memory({ bytes, address, info: memoryInfo("Cpu", 0), onHost: true, free });
  },

  shared: (bytes) => cpu.allocate(bytes),

  copyRows(block, { from, to, pitch, width, height }) {
    // Not by a view of the block: each that is made counts as memory of its size, and has the garbage collector run, which
    // took four times as long as the copies.
    memmove ??= cFunction("void* memmove(void* to, const void* from, size_t bytes)");
    const begin = block.address;
    for (let row = 0; row < height; row++) {
      const at = begin + BigInt(row * pitch);
      memmove(at + BigInt(to), at + BigInt(from), width);
    }
  },

  async configure(settings: Handle, { threads, widenBytes, prepack }: SessionSettings) {
    const api = ortApi();
    api.call("SetIntraOpNumThreads", settings, threads);
    api.call("AddSessionConfigEntry", settings, "session.intra_op.spin_duration_us", SPIN_US);
    if (!prepack) api.call("AddSessionConfigEntry", settings, "session.disable_prepacking", "1");
    if (widenBytes) api.call("AddSessionConfigEntry", settings, "session.x64quantprecision", "1");
  },

  explain: (error) => error,

  memory: () => ({ bytes: totalmem(), reserved: 0, takenAsFilled: true }),

  release() {},
};
