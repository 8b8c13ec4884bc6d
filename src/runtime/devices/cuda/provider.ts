import { DeviceError } from "../../../errors.js";
import { type Handle, ortApi } from "../../api.js";
import type { CudaStream } from "./stream.js";

const FUNCTIONS = {
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, "void* options, void* cuda"],
  CreateCUDAProviderOptions: [205, "_Out_ void** cuda"],
  UpdateCUDAProviderOptions: [206, "void* cuda, const char** keys, const char** values, size_t count"],
  UpdateCUDAProviderOptionsWithValue: [263, "void* cuda, const char* key, void* value"],
} as const;
const RELEASE_CUDA_PROVIDER_OPTIONS = 208;

/**
 * The arena grows by what is asked for, not to the next power of two: the rest of the memory is the cache's. What is
 * float32 in a graph is meant to be: TF32 rounds it to 10 bits. A cuDNN that happens to be on the machine would take
 * over attention on some GPUs, and no two machines would run the same kernels.
 */
const OPTIONS = { arena_extend_strategy: "kSameAsRequested", use_tf32: "0", enable_cudnn: "0" };

/** Gives session options the CUDA provider, its kernels queued on `stream`. @throws {DeviceError} CUDA_UNAVAILABLE */
export async function addCudaProvider(settings: Handle, stream: CudaStream): Promise<void> {
  const api = ortApi();
  const cuda = api.functions(FUNCTIONS);
  const provider = cuda.create("CreateCUDAProviderOptions");
  try {
    const options = { device_id: String(stream.id.index), ...OPTIONS };
    const keys = Object.keys(options);
    cuda.call("UpdateCUDAProviderOptions", provider, keys, Object.values(options), keys.length);
    // As a string this option is taken without complaint and ignored.
    cuda.call("UpdateCUDAProviderOptionsWithValue", provider, "user_compute_stream", stream.handle);
    await cuda.callAsync("SessionOptionsAppendExecutionProvider_CUDA_V2", settings, provider);
  } catch (cause) {
    throw new DeviceError(
      "CUDA_UNAVAILABLE",
      `ONNX Runtime cannot use CUDA: ${(cause as Error).message}. \`qwen3guard cuda status\` shows what is missing.`,
      { cause },
    );
  } finally {
    api.releaser(RELEASE_CUDA_PROVIDER_OPTIONS)(provider);
  }
  // Kernels on a GPU are started by one thread.
  api.call("SetIntraOpNumThreads", settings, 1);
  // Plans memory at the second run of a shape, and keeps the plan: prompts have as many shapes as lengths.
  api.call("DisableMemPattern", settings);
  // A node that CUDA has no kernel for would run on the CPU, its data copied there and back for each token.
  api.call("AddSessionConfigEntry", settings, "session.disable_cpu_ep_fallback", "1");
}
