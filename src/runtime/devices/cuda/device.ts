import { DeviceError } from "../../../errors.js";
import type { Handle } from "../../api.js";
import type { CallThread } from "../../call-thread.js";
import { Memory, mebibytes, memoryInfo, reserve } from "../../memory.js";
import type { CopiedRows, Device, DeviceMemory, Recorder, RecordingMode } from "../device.js";
import { type DeviceId, deviceName } from "../device-id.js";
import { addCudaProvider } from "./provider.js";
import { cudaRuntime, deviceMemory, onDevice } from "./runtime.js";
import { CudaStream } from "./stream.js";

// cudaHostAllocMapped.
const MAPPED = 2;

/** Activations of the longest chunk, cuBLAS, recorded steps: about half of this at the 8B shape. Not measured. */
const WORKSPACE_BYTES = 2 ** 30;

interface CaptureMode extends RecordingMode {
  /** cudaStreamCaptureMode */
  capture: number;
}

/**
 * A capture of this thread's own is not minded by what other threads do meanwhile, and what it cannot hold is an error at
 * once. A relaxed one lets pass what the other forbids, such as freeing pinned memory. Kernels that cannot write over the
 * bus from a graph get memory of the device to write to.
 */
const CAPTURE_MODES: readonly CaptureMode[] = [
  { name: "thread-local", capture: 1, copiesResults: false },
  { name: "relaxed", capture: 2, copiesResults: false },
  { name: "relaxed, results copied", capture: 2, copiesResults: true },
];

/** A GPU, with the stream on which one session's kernels and the copies around them run in the order they were given. */
export class CudaDevice implements Device {
  readonly id: DeviceId;
  readonly defaults = {
    streams: 64,
    // Starting a chunk's kernels one by one takes as long as several recorded steps: estimates.
    chunks: { sharedChunk: 512, loneChunk: 2048, fewTokens: 4 },
    // A run of a length that its thread has not run yet took 0.2 to 0.4 s on an H200, any later one of it 4 to 7 ms.
    paddedLengths: [4, 8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048],
  };
  readonly recorder: Recorder;
  readonly #stream: CudaStream;
  #thread: CallThread | null = null;

  private constructor(stream: CudaStream) {
    this.id = stream.id;
    this.#stream = stream;
    this.recorder = {
      modes: CAPTURE_MODES,
      record: (work, mode) => stream.capture(work, (mode as CaptureMode).capture, this.#thread as CallThread),
      download: (to, from, bytes) => stream.download(to.address, from.address, bytes),
      recover: () => cudaRuntime().forgetErrors(this.#thread as CallThread),
    };
  }

  /** @throws {DeviceError} CUDA_UNAVAILABLE, GPU_UNSUPPORTED, CUDA_ERROR */
  static async open(id: DeviceId): Promise<CudaDevice> {
    return new CudaDevice(await CudaStream.create(id));
  }

  /** All of it is taken at once, and is zero. */
  allocate(bytes: number): Memory {
    const runtime = onDevice(this.id);
    const address = this.#reserve(bytes, () => runtime.create("cudaMalloc", bytes));
    // Whatever lay there before could be NaN, and attention multiplies what it masks by zero.
    runtime.call("cudaMemset", address, 0, bytes);
    runtime.call("cudaStreamSynchronize", null);
    const free = () => onDevice(this.id).call("cudaFree", address);
    return new Memory({ bytes, address, info: this.#info, onHost: false, free });
  }

  shared(bytes: number): Memory {
    const runtime = onDevice(this.id);
    const address = this.#reserve(bytes, () => runtime.create("cudaHostAlloc", bytes, MAPPED));
    const free = () => onDevice(this.id).call("cudaFreeHost", address);
    return new Memory({ bytes, address, info: this.#info, onHost: true, free });
  }

  upload(to: Memory, from: Memory, bytes: number): void {
    this.#stream.upload(to.address, from.address, bytes);
  }

  copyRows(block: Memory, rows: CopiedRows): void {
    this.#stream.copyRows(block.address, rows);
  }

  configure(settings: Handle): Promise<void> {
    return addCudaProvider(settings, this.#stream);
  }

  /**
   * ONNX Runtime 1.30 sets the device when it makes a session and not when it runs one, and a thread that nobody gave a
   * device counts as the first GPU's.
   */
  prepareThread(thread: CallThread): Promise<void> {
    this.#thread = thread;
    return cudaRuntime().callOn(thread, "cudaSetDevice", this.id.index);
  }

  explain(error: unknown): unknown {
    if (!(error instanceof DeviceError) || !error.message.includes("default CPU EP")) return error;
    return new DeviceError(
      "NODE_ON_CPU",
      "The GPU lacks a kernel for a part of this model, which would run on the CPU and be slow: " +
        "export the checkpoint again with --device cuda, or run on the CPU.",
      { cause: error },
    );
  }

  /** Measured: call it once the model is loaded. */
  memory(): DeviceMemory {
    return { bytes: deviceMemory(this.id).free, reserved: WORKSPACE_BYTES, takenAsFilled: false };
  }

  release(): void {
    this.#stream.release();
  }

  get #info(): Handle {
    return memoryInfo("Cuda", this.id.index);
  }

  #reserve(bytes: number, allocate: () => Handle): Handle {
    return reserve(bytes, allocate, () => {
      const { free, total } = deviceMemory(this.id);
      return ` on ${deviceName(this.id)}, where ${mebibytes(free)} of ${mebibytes(total)} are free`;
    });
  }
}
