import { DeviceError } from "../errors.js";
import { type Handle, ortApi } from "./api.js";
import { deviceMemory, onDevice } from "./cuda/runtime.js";
import koffi from "./ffi.js";
import { CPU, type Place, placeName } from "./place.js";

// cudaHostAllocMapped.
const MAPPED = 2;

/** A block of memory whose parts can be bound as tensors. */
export class Memory {
  readonly bytes: number;
  readonly address: Handle;
  /** OrtMemoryInfo* that says whose kernels can use the block. */
  readonly info: Handle;
  readonly #onHost: boolean;
  readonly #free: () => void;

  private constructor(bytes: number, address: Handle, place: Place, onHost: boolean, free: () => void) {
    this.bytes = bytes;
    this.address = address;
    this.info = memoryInfo(place);
    this.#onHost = onHost;
    this.#free = free;
  }

  /**
   * Memory where the place's kernels are at their fastest. On the CPU it comes from ONNX Runtime's plain (not arena)
   * allocator, which takes large blocks straight from the operating system: pages that are never written cost address
   * space, not RAM. On a GPU all of it is taken at once, and is zero.
   *
   * @throws {DeviceError} OUT_OF_MEMORY
   */
  static allocate(bytes: number, place: Place = CPU): Memory {
    if (place.kind === "cuda") return Memory.#onDevice(bytes, place);
    const address = reserve(bytes, place, () => ortApi().create("AllocatorAlloc", defaultAllocator(), bytes));
    return new Memory(bytes, address, place, true, () =>
      ortApi().call("AllocatorFree", defaultAllocator(), address),
    );
  }

  /**
   * Host memory that the place's kernels reach too, at the same address: a GPU's write to it over the bus. For what
   * is small and read by the host, such as logits.
   *
   * @throws {DeviceError} OUT_OF_MEMORY
   */
  static shared(bytes: number, place: Place = CPU): Memory {
    if (place.kind === "cpu") return Memory.allocate(bytes);
    const runtime = onDevice(place);
    const address = reserve(bytes, place, () => runtime.create("cudaHostAlloc", bytes, MAPPED));
    return new Memory(bytes, address, place, true, () => runtime.call("cudaFreeHost", address));
  }

  static #onDevice(bytes: number, place: Place): Memory {
    const runtime = onDevice(place);
    const address = reserve(bytes, place, () => runtime.create("cudaMalloc", bytes));
    // Whatever lay there before could be NaN, and attention multiplies what it masks by zero.
    runtime.call("cudaMemset", address, 0, bytes);
    runtime.call("cudaStreamSynchronize", null);
    return new Memory(bytes, address, place, false, () => onDevice(place).call("cudaFree", address));
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

function reserve(bytes: number, place: Place, allocate: () => Handle): Handle {
  try {
    return allocate();
  } catch (cause) {
    if (!(cause instanceof DeviceError)) throw cause;
    throw new DeviceError(
      "OUT_OF_MEMORY",
      `Could not reserve ${mebibytes(bytes)} of memory${freeOf(place)}. Lower maxStreams or maxTokens.`,
      { cause },
    );
  }
}

function freeOf(place: Place): string {
  if (place.kind === "cpu") return "";
  const { free, total } = deviceMemory(place);
  return ` on ${placeName(place)}, where ${mebibytes(free)} of ${mebibytes(total)} are free`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

let allocator: Handle | undefined;
const infos = new Map<string, Handle>();

function defaultAllocator(): Handle {
  allocator ??= ortApi().create("GetAllocatorWithDefaultOptions");
  return allocator;
}

function memoryInfo(place: Place): Handle {
  const key = placeName(place);
  let info = infos.get(key);
  if (info === undefined) {
    // OrtDeviceAllocator = 0, OrtMemTypeDefault = 0.
    info = ortApi().create("CreateMemoryInfo", place.kind === "cpu" ? "Cpu" : "Cuda", 0, place.index, 0);
    infos.set(key, info);
  }
  return info;
}
