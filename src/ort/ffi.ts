// biome-ignore lint/style/noRestrictedImports: here the stacks are enlarged
import koffi from "koffi";

/** What is never touched of it is address space, not memory. */
const STACK_BYTES = 8 * 2 ** 20;

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
