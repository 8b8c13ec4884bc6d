import { DeviceError } from "../../../errors.js";
import type { Handle } from "../../api.js";
import type { CallThread } from "../../call-thread.js";
import { workerThreads } from "../../worker.js";
import type { CopiedRows, Recording } from "../device.js";
import { type DeviceId, deviceName } from "../device-id.js";
import { chipProblem, inspectCuda } from "./files.js";
import { cudaRuntime, onDevice } from "./runtime.js";

// cudaStreamNonBlocking: what others do on CUDA's default stream does not hold this one up.
const NON_BLOCKING = 1;
const HOST_TO_DEVICE = 1;
const DEVICE_TO_HOST = 2;
const DEVICE_TO_DEVICE = 3;

/**
 * Makes the device the one of the worker threads, which wait for it: a thread without one counts as the first GPU's, and a
 * call from there may make a context on that. A wait from a thread that was missed here (who gets which call is the pool's
 * to say) is still right. The first call for a device makes its context, which takes a while: not on this thread.
 */
async function claimWorkers({ index }: DeviceId): Promise<void> {
  const runtime = cudaRuntime();
  const claims = Array.from({ length: workerThreads() }, () => runtime.callAsync("cudaSetDevice", index));
  await Promise.all(claims);
}

/** A queue of work on a GPU: a session's kernels and the copies around them run in the order they were given. */
export class CudaStream {
  readonly id: DeviceId;
  readonly handle: Handle;

  private constructor(id: DeviceId) {
    this.id = id;
    this.handle = onDevice(id).create("cudaStreamCreateWithFlags", NON_BLOCKING);
  }

  /** @throws {DeviceError} CUDA_UNAVAILABLE, GPU_UNSUPPORTED, CUDA_ERROR */
  static async create(id: DeviceId): Promise<CudaStream> {
    cudaRuntime();
    const { devices } = inspectCuda().driver;
    if (id.index >= devices.length) {
      const shown = devices.map(({ index, name }) => `cuda:${index} (${name})`).join(", ");
      throw new DeviceError("CUDA_UNAVAILABLE", `There is no ${deviceName(id)}. The driver shows ${shown}.`);
    }
    const problem = chipProblem([devices[id.index]]);
    if (problem) throw new DeviceError("GPU_UNSUPPORTED", problem);
    await claimWorkers(id);
    return new CudaStream(id);
  }

  /** Queues a copy from host memory, which must not change before it is done. */
  upload(to: Handle, from: Handle, bytes: number): void {
    onDevice(this.id).call("cudaMemcpyAsync", to, from, bytes, HOST_TO_DEVICE, this.handle);
  }

  /** Queues a copy to host memory, which is there once the stream is done with it. */
  download(to: Handle, from: Handle, bytes: number): void {
    onDevice(this.id).call("cudaMemcpyAsync", to, from, bytes, DEVICE_TO_HOST, this.handle);
  }

  /** Queues a copy of rows within a block of the GPU's memory. */
  copyRows(block: Handle, { from, to, pitch, width, height }: CopiedRows): void {
    const at = (offset: number) => (block as bigint) + BigInt(offset);
    const args = [at(to), pitch, at(from), pitch, width, height, DEVICE_TO_DEVICE, this.handle];
    onDevice(this.id).call("cudaMemcpy2DAsync", ...args);
  }

  /** Resolves when everything queued so far is done. @throws {DeviceError} CUDA_ERROR of any of it */
  finished(): Promise<void> {
    return cudaRuntime().callAsync("cudaStreamSynchronize", this.handle);
  }

  /**
   * Records what `work` queues, without doing it. The addresses it uses, and every number it reads on the host, are
   * part of the graph from then on. What `work` does for the first time should not be done for the first time here:
   * CUDA forbids to allocate or to load kernels meanwhile.
   *
   * @param mode cudaStreamCaptureMode
   * @param thread on which kernels are started: a capture may mind what its own thread does, and ends on the one it began on
   */
  async capture(work: () => Promise<void>, mode: number, thread: CallThread): Promise<CudaGraph> {
    await cudaRuntime().callOn(thread, "cudaStreamBeginCapture", this.handle, mode);
    try {
      await work();
    } catch (error) {
      await this.#abandonCapture(thread);
      throw error;
    }
    const graph = await cudaRuntime().createOn(thread, "cudaStreamEndCapture", this.handle);
    const runtime = onDevice(this.id);
    try {
      const executable = runtime.create("cudaGraphInstantiate", graph, 0);
      // Else the first launch does it.
      runtime.call("cudaGraphUpload", executable, this.handle);
      return new CudaGraph(this, executable);
    } finally {
      runtime.call("cudaGraphDestroy", graph);
    }
  }

  release(): void {
    onDevice(this.id).call("cudaStreamDestroy", this.handle);
  }

  async #abandonCapture(thread: CallThread): Promise<void> {
    const runtime = cudaRuntime();
    try {
      runtime.call("cudaGraphDestroy", await runtime.createOn(thread, "cudaStreamEndCapture", this.handle));
    } catch {
      // What CUDA forbids has ended the capture already; the error that says what it was is on its way.
    }
  }
}

/** Recorded work that one call starts again. */
class CudaGraph implements Recording {
  readonly #stream: CudaStream;
  readonly #handle: Handle;

  constructor(stream: CudaStream, handle: Handle) {
    this.#stream = stream;
    this.#handle = handle;
  }

  /** Queues the recorded work, which takes microseconds, and waits for it on a worker thread. */
  run(): Promise<void> {
    onDevice(this.#stream.id).call("cudaGraphLaunch", this.#handle, this.#stream.handle);
    return this.#stream.finished();
  }

  release(): void {
    cudaRuntime().call("cudaGraphExecDestroy", this.#handle);
  }
}
