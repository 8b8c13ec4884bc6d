import { DenseWeights } from "./dense.js";
import type { FloatType } from "./float.js";
import type { Graph } from "./graph.js";
import { vector, type WeightSource } from "./weights.js";

/** The two moderators' outputs: name in the graph, checkpoint prefix, which label list gives the width. */
export const MODERATORS = [
  {
    prefix: "query_",
    risk: "prompt_risk",
    category: "prompt_category",
    labels: ["promptRisk", "promptCategory"],
  },
  {
    prefix: "",
    risk: "response_risk",
    category: "response_category",
    labels: ["responseRisk", "responseCategory"],
  },
] as const;

/**
 * Adds prompt and response moderator: Linear → RMSNorm → two Linears each. They stay in float32 whatever the format
 * of the backbone: they are small, and the verdict hangs on them.
 *
 * Outputs: prompt_risk, prompt_category, response_risk, response_category, [batch, length, labels] float32.
 *
 * @param activation type of the hidden state
 */
export function addHeads(graph: Graph, source: WeightSource, hidden: string, activation: FloatType): void {
  const { config } = source;
  const weights = new DenseWeights(source, "float32");
  const input = activation === "float32" ? hidden : graph.add("Cast", [hidden], "heads.input", { to: 1 });
  for (const { prefix, risk, category, labels } of MODERATORS) {
    const tensors = `${prefix}risk_level_category`;
    const inner = config.guardInnerSize;
    const pre = weights.linear(graph, `${risk}.pre`, input, [
      { tensor: `${tensors}_pre.weight`, rows: inner, columns: config.hiddenSize },
    ]);
    const norm = vector(graph, source, `${tensors}_layernorm.weight`, inner, "float32");
    const normed = graph.add("SimplifiedLayerNormalization", [pre, norm], `${risk}.norm`, {
      axis: -1,
      epsilon: config.rmsNormEps,
      stash_type: 1,
    });
    for (const [output, tensor, key] of [
      [risk, `${prefix}risk_level_head.weight`, labels[0]],
      [category, `${prefix}category_head.weight`, labels[1]],
    ] as const) {
      const width = config.labels[key].length;
      weights.linear(graph, output, normed, [{ tensor, rows: width, columns: inner }]);
      graph.output(output, "float32", ["batch", "length", width]);
    }
  }
}
