import type { Graph } from "./graph.js";
import type { Target } from "./qwen3.js";
import type { WeightFormat, WeightSource } from "./weights.js";

/** Which tokens of a run have a row of an output: each of them, or the last one of every sequence alone. */
export const POSITIONS = ["each", "last"] as const;

/** An output of the graph beside the cache: float32, [batch, length, width], or [batch, 1, width] at "last". */
export interface ModelOutput {
  /** In the graph, and among the logits that the engine hands out. */
  name: string;
  /** Numbers a row. */
  width: number;
  position: (typeof POSITIONS)[number];
}

/**
 * Adds what reads the last hidden state, [batch, length, hidden], and says which outputs that makes. `headWeights` is the
 * format for a large matrix on which the verdict itself hangs: as the backbone's, but never of fewer than 8 bits.
 */
export type AddOutputs = (
  graph: Graph,
  source: WeightSource,
  hidden: string,
  backbone: { weights: WeightFormat; headWeights: WeightFormat; target: Target },
) => ModelOutput[];

export function addOutput(graph: Graph, { name, width, position }: ModelOutput): void {
  graph.output(name, "float32", ["batch", position === "each" ? "length" : 1, width]);
}
