import { copyFile, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { download, writeFailure } from "../../../../download/download.js";
import { fileSize } from "../../../../download/hub-cache.js";
import { ClosedError, DeviceError, GuardError, StorageError } from "../../../../errors.js";
import { makeFolder } from "../../../../files/regular-file.js";
import { findLibrary } from "../../../library.js";
import { type CudaLibrary, cudaFolder, inspectCuda } from "../files.js";
import { type LibraryPackage, NVIDIA_PACKAGES, providerPackage } from "../packages.js";
import { extractLibraries } from "./wheel.js";
import { isWheelOf, WheelIndex } from "./wheel-index.js";

const LEFTOVER_AGE_MS = 60_000;

/** A wheel to take libraries from. */
export interface WheelSource {
  /** The index's name of what the wheel is of: "nvidia-curand". */
  project: string;
  /** File name. */
  name: string;
  /** Bytes. */
  size: number;
  libraries: readonly string[];
  /** Sees to it that the wheel is there, and returns its path. */
  provide(onProgress: Installation["onProgress"], signal?: AbortSignal): Promise<string>;
  /** True where it was fetched, so that it goes once it is unpacked. */
  temporary: boolean;
}

export interface Installation {
  onProgress?(file: string, done: number, total: number): void;
  signal?: AbortSignal;
}

/**
 * The wheels that hold what this machine lacks; none where all is there.
 *
 * @param from folder with the wheels, instead of the package index
 * @throws {DeviceError} CUDA_PLATFORM
 * @throws {StorageError} INDEX_UNREACHABLE, INDEX_FAILED, WHEEL_NOT_FOUND
 */
export async function missingWheels(from?: string, signal?: AbortSignal): Promise<WheelSource[]> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new DeviceError(
      "CUDA_PLATFORM",
      `The CUDA provider exists for Linux x64 only; this is ${process.platform}-${process.arch}. Run on the CPU.`,
    );
  }
  const missing = missingPackages(inspectCuda().libraries);
  const index = new WheelIndex(signal);
  const wheels: WheelSource[] = [];
  // In turn, so that of several that are missing the same one is named each time.
  for (const wanted of missing) {
    wheels.push(await (from === undefined ? wheelInIndex(wanted, index) : wheelInFolder(wanted, from)));
  }
  return wheels;
}

/**
 * Puts the libraries of the given wheels, and a copy of the package's ONNX Runtime, into `cudaFolder()`. Each
 * file appears there complete or not at all; broken off, it goes on where it stopped when run again.
 *
 * @throws {StorageError} INDEX_FAILED, DOWNLOAD_CUT, DOWNLOAD_CORRUPT, WHEEL_DAMAGED, WHEEL_INCOMPLETE, DISK_FULL,
 *   CACHE_UNWRITABLE
 * @throws {ClosedError} ABORTED
 */
export async function installCuda(wheels: readonly WheelSource[], options: Installation = {}): Promise<void> {
  const folder = cudaFolder();
  try {
    await makeFolder(folder);
    await removeLeftovers(folder);
    for (const { libraries, temporary, provide } of wheels) {
      const wheel = await provide(options.onProgress, options.signal);
      await extractLibraries({ ...options, wheel, libraries, folder });
      if (temporary) await rm(wheel, { force: true });
    }
    await copyRuntime(folder);
  } catch (cause) {
    if (options.signal?.aborted) {
      throw new ClosedError("ABORTED", "Aborted. Run it again: it goes on where it stopped.", { cause });
    }
    throw cause instanceof GuardError ? cause : writeFailure(folder, cause, "QWEN3GUARD_CUDA");
  }
}

function missingPackages(libraries: CudaLibrary[]): LibraryPackage[] {
  const present = new Set(libraries.filter(({ path }) => path !== null).map(({ name }) => name));
  return [providerPackage(findLibrary().packageVersion), ...NVIDIA_PACKAGES].filter(
    (wanted) => !wanted.libraries.every((name) => present.has(name)),
  );
}

async function wheelInIndex(wanted: LibraryPackage, index: WheelIndex): Promise<WheelSource> {
  const { name, size, sha256, url } = await index.find(wanted);
  const path = join(cudaFolder(), name);
  return {
    project: wanted.project,
    name,
    size,
    libraries: wanted.libraries,
    temporary: true,
    async provide(onProgress, signal) {
      if ((await fileSize(path)) === size) return path;
      await download({
        request: (headers) => index.fetch(url, headers),
        path,
        size,
        oid: sha256,
        folderVariable: "QWEN3GUARD_CUDA",
        onProgress: (loaded) => onProgress?.(name, loaded, size),
        signal,
      });
      return path;
    },
  };
}

async function wheelInFolder(wanted: LibraryPackage, folder: string): Promise<WheelSource> {
  const { project, version, libraries } = wanted;
  const files = await readdir(folder).catch((cause) => {
    throw new StorageError("WHEEL_NOT_FOUND", `${folder} cannot be read: ${cause.message}.`, { cause });
  });
  const name = files.sort().find((file) => isWheelOf(file, project, version));
  if (name === undefined) {
    throw new StorageError(
      "WHEEL_NOT_FOUND",
      `${folder} holds no wheel of ${project} ${version} for Linux x64. On a machine with internet, ` +
        `\`pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 ` +
        `--platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 ${project}==${version}\` fetches it.`,
    );
  }
  const path = join(folder, name);
  return {
    project,
    name,
    size: (await stat(path)).size,
    libraries,
    temporary: false,
    provide: async () => path,
  };
}

/** Deletes what a killed process was unpacking. One that still runs writes all the time. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(".partial")) continue;
    const path = join(folder, name);
    if (Date.now() - (await stat(path)).mtimeMs > LEFTOVER_AGE_MS) await rm(path, { force: true });
  }
}

async function copyRuntime(folder: string): Promise<void> {
  const { path } = findLibrary();
  const partial = join(folder, `${basename(path)}.${process.pid}.partial`);
  await copyFile(path, partial);
  await rename(partial, join(folder, basename(path)));
}
