import { exportModel } from "../../src/export/export.js";
import type { WeightSource } from "../../src/export/weights.js";
import type { Device, Dtype, Manifest } from "../../src/model/manifest.js";
import { addGreedyHead } from "./greedy-head.js";

/** Writes a causal LM: the guard's own exporter, with a greedy head in place of the moderators. */
export function exportGenerator(
  weights: WeightSource,
  out: string,
  format: { dtype: Dtype; device: Device },
): Promise<Manifest> {
  return exportModel({ weights, addOutputs: addGreedyHead, sources: {} }, out, format);
}
