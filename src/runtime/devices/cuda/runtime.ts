import { DeviceError } from "../../../errors.js";
import type { CallArgument, CallThread } from "../../call-thread.js";
import { loadLibrary } from "../../library.js";
import { type NativeFunction, nativeFunction } from "../../native-function.js";
import { callOnWorker } from "../../worker.js";
import { cpu } from "../cpu.js";
import type { DeviceId } from "../device-id.js";
import { inspectCuda } from "./files.js";
import { cudaKind } from "./kind.js";

/** The functions of NVIDIA's libcudart in use, with their C parameters; all return 0 on success. */
const FUNCTIONS = {
  cudaSetDevice: "int device",
  cudaMalloc: "_Out_ void** address, size_t bytes",
  cudaFree: "void* address",
  cudaHostAlloc: "_Out_ void** address, size_t bytes, uint32_t flags",
  cudaFreeHost: "void* address",
  cudaMemset: "void* address, int value, size_t bytes",
  cudaMemGetInfo: "_Out_ size_t* free, _Out_ size_t* total",
  cudaMemcpyAsync: "void* to, void* from, size_t bytes, int kind, void* stream",
  cudaMemcpy2DAsync:
    "void* to, size_t toPitch, void* from, size_t fromPitch, size_t width, size_t height, int kind, void* stream",
  cudaStreamCreateWithFlags: "_Out_ void** stream, uint32_t flags",
  cudaStreamDestroy: "void* stream",
  cudaStreamSynchronize: "void* stream",
  cudaStreamBeginCapture: "void* stream, int mode",
  cudaStreamEndCapture: "void* stream, _Out_ void** graph",
  cudaGraphInstantiate: "_Out_ void** executable, void* graph, uint64_t flags",
  cudaGraphDestroy: "void* graph",
  cudaGraphExecDestroy: "void* executable",
  cudaGraphLaunch: "void* executable, void* stream",
  cudaGraphUpload: "void* executable, void* stream",
} as const;

type Name = keyof typeof FUNCTIONS;

const OUT_OF_MEMORY = 2;

/** NVIDIA's CUDA runtime, the very library that the provider calls: what one allocates the other can use. */
class CudaRuntime {
  readonly #call = {} as Record<Name, NativeFunction<number>>;
  readonly #errorText: (status: number) => string;
  readonly #lastError: NativeFunction<number>;

  constructor(path: string) {
    const library = loadLibrary(path);
    for (const [name, parameters] of Object.entries(FUNCTIONS)) {
      this.#call[name as Name] = nativeFunction(library.symbol(name, "void*"), `int (${parameters})`);
    }
    this.#lastError = nativeFunction(library.symbol("cudaGetLastError", "void*"), "int ()");
    this.#errorText = library.func("const char* cudaGetErrorString(int status)") as unknown as (
      status: number,
    ) => string;
  }

  /** @throws {DeviceError} CUDA_ERROR, OUT_OF_MEMORY */
  call(name: Name, ...args: unknown[]): void {
    this.#check(name, this.#call[name](...args));
  }

  /** Calls a function with an out pointer, first or last among its parameters, and returns what was written there. */
  create(name: Name, ...args: unknown[]): bigint {
    const out: [bigint | null] = [null];
    const last = FUNCTIONS[name].lastIndexOf("_Out_") > 0;
    this.call(name, ...(last ? [...args, out] : [out, ...args]));
    return out[0] as bigint;
  }

  /** The same on a worker thread: the event loop goes on meanwhile. */
  callAsync(name: Name, ...args: unknown[]): Promise<void> {
    return callOnWorker(this.#call[name], args, (status) => this.#check(name, status));
  }

  /** The same on a thread of one's own. */
  callOn(thread: CallThread, name: Name, ...args: CallArgument[]): Promise<void> {
    return thread.call(this.#call[name], args, (status) => this.#check(name, status));
  }

  /** The same, of what a function with an out pointer writes there. */
  async createOn(thread: CallThread, name: Name, ...args: CallArgument[]): Promise<bigint> {
    const out = cpu.allocate(8);
    try {
      await this.callOn(thread, name, ...args, out.address);
      return new BigUint64Array(out.view())[0];
    } finally {
      out.free();
    }
  }

  /** Has this thread and the other forget the errors of their last failures, which their next calls would report. */
  async forgetErrors(thread: CallThread): Promise<void> {
    this.#lastError();
    await thread.call(this.#lastError, [], () => {});
  }

  #check(name: Name, status: number): void {
    if (status === 0) return;
    throw new DeviceError(
      status === OUT_OF_MEMORY ? "OUT_OF_MEMORY" : "CUDA_ERROR",
      `${name} failed: ${this.#errorText(status)} (${status}). \`qwen3guard doctor\` shows what the GPU has.`,
    );
  }
}

let shared: CudaRuntime | undefined;

/**
 * The process-wide CUDA runtime. The first call loads NVIDIA's libraries, so that the provider finds them wherever
 * they lie.
 *
 * @throws {DeviceError} CUDA_UNAVAILABLE, GPU_UNSUPPORTED with what is missing and how to get it
 */
export function cudaRuntime(): CudaRuntime {
  if (!shared) {
    const problem = cudaKind.problem();
    if (problem) throw problem;
    const { libraries } = inspectCuda();
    const isNvidia = ({ name }: { name: string }) => !name.includes("onnxruntime");
    const paths = libraries.filter(isNvidia).map(({ path }) => path as string);
    for (const path of paths) loadLibrary(path, { global: true });
    shared = new CudaRuntime(paths.find((path) => path.includes("libcudart")) as string);
  }
  return shared;
}

/** Makes `id` the device that this thread's next CUDA calls go to. @throws {DeviceError} CUDA_UNAVAILABLE */
export function onDevice(id: DeviceId): CudaRuntime {
  const runtime = cudaRuntime();
  runtime.call("cudaSetDevice", id.index);
  return runtime;
}

/** Bytes of the device's memory: free, and in all. */
export function deviceMemory(id: DeviceId): { free: number; total: number } {
  const free: [number | bigint] = [0];
  const total: [number | bigint] = [0];
  onDevice(id).call("cudaMemGetInfo", free, total);
  return { free: Number(free[0]), total: Number(total[0]) };
}
