import { DeviceError } from "../../errors.js";
import { type Handle, type OrtApi, ortApi } from "../api.js";
import type { CudaStream } from "./stream.js";

/** Gives session options the CUDA provider, its kernels queued on `stream`. @throws {DeviceError} CUDA_UNAVAILABLE */
export async function addCudaProvider(settings: Handle, stream: CudaStream): Promise<void> {
  const api = ortApi();
  const provider = api.create("CreateCUDAProviderOptions");
  try {
    // The arena grows by what is asked for, not to the next power of two: the rest of the memory is the cache's.
    setOptions(api, provider, {
      device_id: String(stream.place.index),
      arena_extend_strategy: "kSameAsRequested",
      // What is float32 in a graph is meant to be: TF32 rounds it to 10 bits.
      use_tf32: "0",
    });
    // As a string this option is taken without complaint and ignored.
    api.call("UpdateCUDAProviderOptionsWithValue", provider, "user_compute_stream", stream.handle);
    await api.callAsync("SessionOptionsAppendExecutionProvider_CUDA_V2", settings, provider);
  } catch (cause) {
    throw new DeviceError(
      "CUDA_UNAVAILABLE",
      `ONNX Runtime cannot use CUDA: ${(cause as Error).message}. \`qwen3guard cuda status\` shows what is missing.`,
      { cause },
    );
  } finally {
    api.release("ReleaseCUDAProviderOptions", provider);
  }
  // Plans memory at the second run of a shape, and keeps the plan: prompts have as many shapes as lengths.
  api.call("DisableMemPattern", settings);
  // A node that CUDA has no kernel for would run on the CPU, its data copied there and back for each token.
  api.call("AddSessionConfigEntry", settings, "session.disable_cpu_ep_fallback", "1");
}

function setOptions(api: OrtApi, provider: Handle, options: Record<string, string>): void {
  const keys = Object.keys(options);
  api.call("UpdateCUDAProviderOptions", provider, keys, Object.values(options), keys.length);
}
