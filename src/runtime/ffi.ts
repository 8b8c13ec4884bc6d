import { createRequire } from "node:module";
import { DeviceError } from "../errors.js";
import { packageFile } from "../package/package.js";

type Koffi = typeof import("koffi");

/**
 * koffi by its part for this platform, which is all there is to it but an install script that would build what is there:
 * package managers that run no scripts unasked refuse or warn of it.
 */
function loadKoffi(): { koffi: Koffi; path: string } {
  const name = `@koromix/koffi-${process.platform}-${process.arch}`;
  const require = createRequire(packageFile("package.json"));
  try {
    return { koffi: require(name), path: require.resolve(name) };
  } catch (cause) {
    throw new DeviceError(
      "FFI_NOT_FOUND",
      `${name} could not be loaded, by which native libraries are called: ${(cause as Error).message.split("\n", 1)}. ` +
        "It comes as an optional dependency for Linux (x64, arm64), macOS (arm64) and Windows (x64, arm64): install with " +
        "those, and on the platform that it is to run on.",
      { cause },
    );
  }
}

const { koffi, path } = loadKoffi();

/** For threads that load it themselves. */
export const KOFFI_MODULE = path;

/** What is never touched of it is address space, not memory. */
export const STACK_BYTES = 8 * 2 ** 20;

/**
 * koffi gives a native call a stack of its own: 2 MiB, and 128 KiB on worker threads, where the C library's would be
 * 8 MiB. ONNX Runtime and NVIDIA's libraries are written for the latter, and a stack too small is a segmentation fault.
 * koffi takes a setting once in a thread, before its first call there.
 */
function enlargeStacks(): void {
  const { sync_stack_size: sync, async_stack_size: async } = koffi.config();
  if (Math.min(sync ?? 0, async ?? 0) >= STACK_BYTES) return;
  try {
    koffi.config({ sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
  } catch {
    process.emitWarning(
      "koffi was used before qwen3guard-stream was imported, and its call stacks are too small for ONNX Runtime, which " +
        "may crash the process. Import qwen3guard-stream first.",
      { code: "QWEN3GUARD_SMALL_STACKS" },
    );
  }
}

enlargeStacks();

/** The foreign function interface, ready for deep calls: every module takes koffi from here. */
export default koffi;
