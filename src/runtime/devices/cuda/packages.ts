/** A wheel of the Python package index and the libraries wanted of it, in the order in which they must be loaded. */
export interface LibraryPackage {
  project: string;
  /** The release that is fetched. */
  version: string;
  libraries: readonly string[];
}

/** What the index's wheels of `onnxruntime-gpu` 1.30 for Linux are built for. */
export const CUDA_MAJOR = 13;

/**
 * Compute capabilities that the provider of 1.30 holds machine code for. It holds no PTX, from which the driver could make
 * code for others, so on any other GPU each kernel fails to start.
 */
export const CAPABILITIES: readonly string[] = ["7.5", "8.0", "8.6", "8.9", "9.0", "12.0"];

/** ONNX Runtime's CUDA provider. It works only beside an ONNX Runtime of the very same version. */
export function providerPackage(version: string): LibraryPackage {
  const libraries = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];
  return { project: "onnxruntime-gpu", version, libraries };
}

/**
 * NVIDIA's libraries that the provider links (`readelf -d`). A machine's own of any CUDA 13 release will do; the
 * releases named here are those of CUDA 13.0, which every driver for CUDA 13 serves in full.
 */
export const NVIDIA_PACKAGES: readonly LibraryPackage[] = [
  { project: "nvidia-cuda-runtime", version: "13.0.96", libraries: ["libcudart.so.13"] },
  { project: "nvidia-cublas", version: "13.1.0.3", libraries: ["libcublasLt.so.13", "libcublas.so.13"] },
  { project: "nvidia-curand", version: "10.4.0.35", libraries: ["libcurand.so.10"] },
];
