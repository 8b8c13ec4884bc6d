import koffi from "koffi";
import { DeviceError } from "../errors.js";
import { type Handle, ortApi } from "./api.js";

/**
 * A block of host memory from ONNX Runtime's plain (not arena) allocator. Large blocks come straight from the
 * operating system: pages that are never written cost address space, not RAM.
 */
export class Memory {
  readonly bytes: number;
  readonly address: Handle;
  /** OrtMemoryInfo* that describes where the block lives. */
  readonly info: Handle;

  private constructor(bytes: number, address: Handle, info: Handle) {
    this.bytes = bytes;
    this.address = address;
    this.info = info;
  }

  /** @throws {DeviceError} OUT_OF_MEMORY */
  static allocate(bytes: number): Memory {
    const api = ortApi();
    try {
      const address = api.create("AllocatorAlloc", defaultAllocator(), bytes);
      return new Memory(bytes, address, hostInfo());
    } catch (cause) {
      throw new DeviceError(
        "OUT_OF_MEMORY",
        `Could not reserve ${(bytes / 2 ** 20).toFixed(0)} MiB of memory. Lower maxStreams or maxTokens.`,
        { cause },
      );
    }
  }

  /** The block's bytes as an ArrayBuffer, without a copy. Invalid after `free()`. */
  view(): ArrayBuffer {
    return koffi.view(this.address, this.bytes);
  }

  free(): void {
    ortApi().call("AllocatorFree", defaultAllocator(), this.address);
  }
}

let allocator: Handle | undefined;
let info: Handle | undefined;

function defaultAllocator(): Handle {
  allocator ??= ortApi().create("GetAllocatorWithDefaultOptions");
  return allocator;
}

function hostInfo(): Handle {
  // OrtDeviceAllocator = 0, device 0, OrtMemTypeDefault = 0.
  info ??= ortApi().create("CreateMemoryInfo", "Cpu", 0, 0, 0);
  return info;
}
