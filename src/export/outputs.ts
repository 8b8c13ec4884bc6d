import type { ModelOutput } from "../model/outputs.js";
import type { Graph } from "../onnx/graph.js";
import type { Target } from "./qwen3.js";
import type { WeightFormat, WeightSource } from "./weights.js";

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

const LENGTHS = { each: "length", last: 1, tail: "tail" };

export function addOutput(graph: Graph, { name, width, position }: ModelOutput): void {
  graph.output(name, "float32", ["batch", LENGTHS[position], width]);
}
