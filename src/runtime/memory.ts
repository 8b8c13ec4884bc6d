import { DeviceError } from "../errors.js";
import { type Handle, ortApi } from "./api.js";
import koffi from "./ffi.js";

interface Block {
  bytes: number;
  address: Handle;
  info: Handle;
  onHost: boolean;
  free: () => void;
}

/** A block of memory whose parts can be bound as tensors; a device allocates it. */
export class Memory {
  readonly bytes: number;
  readonly address: Handle;
  /** OrtMemoryInfo* that says whose kernels can use the block. */
  readonly info: Handle;
  readonly #onHost: boolean;
  readonly #free: () => void;

  constructor({ bytes, address, info, onHost, free }: Block) {
    this.bytes = bytes;
    this.address = address;
    this.info = info;
    this.#onHost = onHost;
    this.#free = free;
  }

  /** The block's bytes as an ArrayBuffer, without a copy. Invalid after `free()`. Not for a GPU's own memory. */
  view(): ArrayBuffer {
    if (!this.#onHost) throw new TypeError("memory on a GPU cannot be viewed from the host");
    return koffi.view(this.address, this.bytes);
  }

  free(): void {
    this.#free();
  }
}

/**
 * Allocates, and says in the error how much was wanted.
 *
 * @param where what to say of the place and what it has, when it has too little
 * @throws {DeviceError} OUT_OF_MEMORY
 */
export function reserve(bytes: number, allocate: () => Handle, where = () => ""): Handle {
  try {
    return allocate();
  } catch (cause) {
    if (!(cause instanceof DeviceError)) throw cause;
    throw new DeviceError(
      "OUT_OF_MEMORY",
      `Could not reserve ${mebibytes(bytes)} of memory${where()}. Lower maxStreams or maxTokens.`,
      { cause },
    );
  }
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

const infos = new Map<string, Handle>();

/** OrtMemoryInfo* of a device's own memory. @param allocator as ONNX Runtime calls it: "Cpu", "Cuda" */
export function memoryInfo(allocator: string, index: number): Handle {
  const key = `${allocator}:${index}`;
  let info = infos.get(key);
  if (info === undefined) {
    // OrtDeviceAllocator = 0, OrtMemTypeDefault = 0.
    info = ortApi().create("CreateMemoryInfo", allocator, 0, index, 0);
    infos.set(key, info);
  }
  return info;
}
