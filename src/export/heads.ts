import { MODERATORS } from "../model/architecture.js";
import { guardOutputs } from "../model/guard-outputs.js";
import { DenseWeights } from "./formats/dense.js";
import { type AddOutputs, addOutput } from "./outputs.js";
import { vector } from "./weights.js";

/**
 * Adds prompt and response moderator: Linear → RMSNorm → two Linears each. They stay in float32 whatever the format
 * of the backbone: they are small, and the verdict hangs on them.
 */
export const addHeads: AddOutputs = (graph, source, hidden, { target }) => {
  const { config } = source;
  const weights = new DenseWeights(source, "float32");
  const input =
    target.activation === "float32" ? hidden : graph.add("Cast", [hidden], "heads.input", { to: 1 });
  for (const { tensors, heads } of MODERATORS) {
    const inner = config.guardInnerSize as number;
    const pre = weights.linear(graph, `${tensors}.pre`, input, [
      { tensor: `${tensors}_pre.weight`, rows: inner, columns: config.hiddenSize },
    ]);
    const norm = vector(graph, source, `${tensors}_layernorm.weight`, inner, "float32");
    const normed = graph.add("SimplifiedLayerNormalization", [pre, norm], `${tensors}.norm`, {
      axis: -1,
      epsilon: config.rmsNormEps,
      stash_type: 1,
    });
    for (const { name, tensor } of heads) {
      const rows = config.labels[name].length;
      weights.linear(graph, name, normed, [{ tensor, rows, columns: inner }]);
    }
  }
  const outputs = guardOutputs(config, target.asksForOutputs);
  for (const output of outputs) addOutput(graph, output);
  return outputs;
};
