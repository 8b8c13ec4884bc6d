import type { Manifest } from "../model/manifest.js";
import type { ExportOptions } from "./export.js";

/**
 * Exports a checkpoint to a model directory: model.onnx, model.onnx.data, guard.json and the tokenizer's files.
 * Weights stream through, so memory stays bounded whatever the model's size. The directory appears only when it
 * is complete.
 *
 * @throws {CheckpointError} NON_FINITE_WEIGHT, TOKENIZER_MISSING, TOKENIZER_MISMATCH, and see `Checkpoint.open`,
 *   `Tokenizer.load` and `ChatTemplate.load`
 * @throws {InputError} UNKNOWN_DTYPE, UNKNOWN_DEVICE, DTYPE_NEEDS_CUDA, DTYPE_NEEDS_CPU
 * @throws {StorageError} OUTPUT_EXISTS, OUTPUT_NOT_WRITABLE, DISK_FULL
 * @throws {ClosedError} ABORTED
 */
export async function exportCheckpoint(
  checkpointDir: string,
  out: string,
  options: ExportOptions = {},
): Promise<Manifest> {
  // Most find their model exported, and have no use for what makes one.
  return (await import("./export.js")).exportCheckpoint(checkpointDir, out, options);
}
