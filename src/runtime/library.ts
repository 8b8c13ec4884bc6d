import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LibraryHandle } from "koffi";
import { DeviceError } from "../errors.js";
import { packageFile } from "../package/package.js";
import koffi from "./ffi.js";

/** What onnxruntime-node ships, as `scripts/native/gather.mjs` puts it into the package. */
const FOLDER = fileURLToPath(packageFile("native/"));

const FILE_NAMES: Partial<Record<NodeJS.Platform, string>> = {
  linux: "libonnxruntime.so.1",
  darwin: "libonnxruntime.1.dylib",
  win32: "onnxruntime.dll",
};

export interface OrtLibrary {
  /** Absolute path of the shared library. */
  path: string;
  /** Version of ONNX Runtime. */
  packageVersion: string;
}

/**
 * Finds the ONNX Runtime library that came with the package.
 *
 * @throws {DeviceError} ORT_NOT_FOUND when there is none for this platform.
 */
export function findLibrary(): OrtLibrary {
  const { platform, arch } = process;
  const path = join(FOLDER, platform, arch, FILE_NAMES[platform] ?? "");
  if (FILE_NAMES[platform] && existsSync(path)) {
    const { onnxruntime } = JSON.parse(readFileSync(join(FOLDER, "version.json"), "utf8"));
    return { path, packageVersion: onnxruntime };
  }
  throw new DeviceError(
    "ORT_NOT_FOUND",
    existsSync(FOLDER)
      ? `There is no ONNX Runtime for ${platform}-${arch} (looked for ${path}). ` +
          "Use Linux x64 or arm64, macOS arm64, or Windows x64 or arm64."
      : `The package is incomplete: ${FOLDER} is missing. Install it again; in its repository, run npm run build.`,
  );
}

// koffi unloads a library once its handle is collected, even while function pointers into it are still in use.
const loaded = new Map<string, LibraryHandle>();

/**
 * Loads a shared library, once in a process.
 *
 * @param options `global`: libraries loaded later find their symbols in it, wherever it lies
 * @throws {DeviceError} LIBRARY_NOT_LOADED
 */
export function loadLibrary(path: string, options: { global?: boolean } = {}): LibraryHandle {
  let handle = loaded.get(path);
  if (!handle) {
    try {
      handle = koffi.load(path, options);
    } catch (cause) {
      throw new DeviceError(
        "LIBRARY_NOT_LOADED",
        `${path} could not be loaded: ${(cause as Error).message}. ${adviceOnLibc()}`,
        { cause },
      );
    }
    loaded.set(path, handle);
  }
  return handle;
}

function adviceOnLibc(): string {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  if (process.platform !== "linux" || !report || report.header?.glibcVersionRuntime) {
    return "Install the package it belongs to again.";
  }
  return (
    "This Linux has musl in place of glibc, as Alpine does, and ONNX Runtime is built for glibc: use an image with " +
    "glibc, node:22-slim for example."
  );
}
