import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { LibraryHandle } from "koffi";
import { DeviceError } from "../errors.js";
import koffi from "./ffi.js";

/** File names onnxruntime-node gives its shared library, by platform. */
const FILE_NAMES: Partial<Record<NodeJS.Platform, string>> = {
  linux: "libonnxruntime.so.1",
  darwin: "libonnxruntime.1.dylib",
  win32: "onnxruntime.dll",
};

export interface OrtLibrary {
  /** Absolute path of the shared library. */
  path: string;
  /** Version of the onnxruntime-node package that carries it. */
  packageVersion: string;
}

/**
 * Finds the ONNX Runtime library inside the installed onnxruntime-node package.
 *
 * @throws {DeviceError} ORT_NOT_FOUND when the package has no library for this platform.
 */
export function findLibrary(): OrtLibrary {
  const require = createRequire(import.meta.url);
  let manifest: string;
  try {
    manifest = require.resolve("onnxruntime-node/package.json");
  } catch (cause) {
    throw new DeviceError(
      "ORT_NOT_FOUND",
      "onnxruntime-node is not installed. Run `npm install onnxruntime-node`.",
      {
        cause,
      },
    );
  }
  const fileName = FILE_NAMES[process.platform];
  const path = join(dirname(manifest), "bin", "napi-v6", process.platform, process.arch, fileName ?? "");
  if (!fileName || !existsSync(path)) {
    throw new DeviceError(
      "ORT_NOT_FOUND",
      `onnxruntime-node ships no ONNX Runtime for ${process.platform}-${process.arch} (looked for ${path}). ` +
        "Use Linux x64 or arm64, macOS arm64, or Windows x64 or arm64.",
    );
  }
  return { path, packageVersion: require(manifest).version };
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
        `${path} could not be loaded: ${(cause as Error).message}. Install the package it belongs to again.`,
        { cause },
      );
    }
    loaded.set(path, handle);
  }
  return handle;
}
