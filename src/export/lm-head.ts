import { lmHeadTensor } from "../model/architecture.js";
import type { GuardConfig } from "../model/config.js";
import type { ModelOutput } from "../model/outputs.js";
import { ELEMENT } from "../runtime/tensor.js";
import { type AddOutputs, addOutput } from "./outputs.js";

/** The name of a Gen guard's one output: a logit for each token of its vocabulary. */
export const NEXT_TOKEN = "nextToken";

export function genOutputs({ vocabSize }: Pick<GuardConfig, "vocabSize">): ModelOutput[] {
  return [{ name: NEXT_TOKEN, width: vocabSize, position: "last" }];
}

/**
 * Adds the LM head over the last position of each run: what a prompt's other tokens would go on with is nobody's
 * question, and costs as much as several layers.
 */
export const addLmHead: AddOutputs = (graph, { config }, hidden, { headWeights }) => {
  const index = graph.constant("last_position", "int64", [1], BigInt64Array.of(-1n));
  const last = graph.add("Gather", [hidden, index], "lm_head.input", { axis: 1 });
  const matrix = { tensor: lmHeadTensor(config), rows: config.vocabSize, columns: config.hiddenSize };
  const scores = headWeights.linear(graph, "lm_head", last, [matrix]);
  graph.add("Cast", [scores], NEXT_TOKEN, { to: ELEMENT.float32.onnx });
  const outputs = genOutputs(config);
  for (const output of outputs) addOutput(graph, output);
  return outputs;
};
