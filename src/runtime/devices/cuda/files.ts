import { existsSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import envPaths from "env-paths";
import { findLibrary } from "../../library.js";
import { type CudaDevice, type CudaDriver, readDriver } from "./driver.js";
import { findLibraries } from "./library-search.js";
import { CAPABILITIES, CUDA_MAJOR, NVIDIA_PACKAGES, providerPackage } from "./packages.js";

export interface CudaLibrary {
  name: string;
  /** Absolute path; null where it is missing. */
  path: string | null;
}

export interface CudaStatus {
  /** Provider, libraries, driver and a device are there. */
  usable: boolean;
  /** What is missing and how to get it, in one sentence; null where all is there. */
  problem: string | null;
  /** Where the provider's files lie or would lie: `cudaFolder()`. */
  libraryDir: string;
  /**
   * NVIDIA's libraries in the order in which they must be loaded, then a copy of ONNX Runtime (which looks for
   * providers beside itself) and the provider's two.
   */
  libraries: CudaLibrary[];
  driver: CudaDriver;
}

/**
 * Folder of the CUDA provider's files for the package's ONNX Runtime: `<root>/<its version>`, where the root is
 * QWEN3GUARD_CUDA or lies in the user's cache.
 *
 * @throws {DeviceError} ORT_NOT_FOUND
 */
export function cudaFolder(): string {
  const root = process.env.QWEN3GUARD_CUDA || join(envPaths("qwen3guard", { suffix: "" }).cache, "cuda");
  return join(root, findLibrary().packageVersion);
}

/** Looks whether CUDA can be used: files by name, then the driver. Loads nothing but the driver. Never throws. */
export function inspectCuda(): CudaStatus {
  const status: CudaStatus = {
    usable: false,
    problem: null,
    libraryDir: "",
    libraries: [],
    driver: { version: null, release: null, devices: [], problem: null },
  };
  try {
    if (process.platform !== "linux" || process.arch !== "x64") {
      return {
        ...status,
        problem: `CUDA runs on Linux x64 only; this is ${process.platform}-${process.arch}.`,
      };
    }
    status.libraryDir = cudaFolder();
    status.libraries = listLibraries(status.libraryDir);
    status.driver = readDriver();
    status.problem = driverProblem(status.driver) ?? libraryProblem(status.libraries);
    status.usable = status.problem === null;
  } catch (error) {
    status.problem = (error as Error).message;
  }
  return status;
}

/**
 * The copy of ONNX Runtime beside the provider, null where there is none. A copy of another build than the installed
 * one is none.
 *
 * @throws {DeviceError} ORT_NOT_FOUND
 */
export function runtimeCopy(): string | null {
  const runtime = findLibrary().path;
  const copy = join(cudaFolder(), basename(runtime));
  return existsSync(copy) && statSync(copy).size === statSync(runtime).size ? copy : null;
}

/** NVIDIA's libraries, the copy of ONNX Runtime and the provider, each with where it was found. */
function listLibraries(folder: string): CudaLibrary[] {
  const nvidia = NVIDIA_PACKAGES.flatMap(({ libraries }) => {
    const paths = inFolder(folder, libraries) ?? findLibraries(libraries);
    return libraries.map((name, index) => ({ name, path: paths?.[index] ?? null }));
  });
  const runtime = findLibrary();
  const provider = providerPackage(runtime.packageVersion).libraries.map((name) => ({
    name,
    path: inFolder(folder, [name])?.[0] ?? null,
  }));
  return [...nvidia, { name: basename(runtime.path), path: runtimeCopy() }, ...provider];
}

function inFolder(folder: string, names: readonly string[]): string[] | null {
  const paths = names.map((name) => join(folder, name));
  return paths.every((path) => existsSync(path)) ? paths : null;
}

/** Why none of these GPUs will do; null where one of them does. */
export function chipProblem(devices: readonly CudaDevice[]): string | null {
  if (devices.some(({ capability }) => CAPABILITIES.includes(capability))) return null;
  const shown = devices.map(({ index, name, capability }) => `cuda:${index} (${name}) is of ${capability}`);
  return (
    `The CUDA provider holds machine code for GPUs of compute capability ${CAPABILITIES.join(", ")} alone; ` +
    `${shown.join(", ")}. Run on another GPU or on the CPU.`
  );
}

function driverProblem({ version, devices, problem }: CudaDriver): string | null {
  if (version === null) {
    return `No working NVIDIA driver (${problem}): install driver 580 or later on a machine with an NVIDIA GPU, or run on the CPU.`;
  }
  if (Number.parseInt(version, 10) < CUDA_MAJOR) {
    return `The NVIDIA driver serves CUDA ${version}, but CUDA ${CUDA_MAJOR} is needed: install driver 580 or later.`;
  }
  if (devices.length === 0) {
    return `The NVIDIA driver shows no GPU (${problem}): check nvidia-smi and CUDA_VISIBLE_DEVICES.`;
  }
  return chipProblem(devices);
}

function libraryProblem(libraries: CudaLibrary[]): string | null {
  const missing = libraries.filter(({ path }) => path === null).map(({ name }) => name);
  return missing.length === 0 ? null : `Missing: ${missing.join(", ")}. Run \`qwen3guard cuda install\`.`;
}
