import { lmHeadTensor } from "../model/architecture.js";
import { genOutputs, NEXT_TOKEN } from "../model/guard-outputs.js";
import { ELEMENT } from "../runtime/tensor.js";
import { type AddOutputs, addOutput } from "./outputs.js";

/**
 * Adds the LM head. The backbone gives the last tokens of each run alone, or those that it asks for: what a prompt's other
 * tokens would go on with is nobody's question, and costs as much as several layers.
 */
export const addLmHead: AddOutputs = (graph, { config }, hidden, { headWeights, target }) => {
  const matrix = { tensor: lmHeadTensor(config), rows: config.vocabSize, columns: config.hiddenSize };
  const scores = headWeights.linear(graph, "lm_head", hidden, [matrix]);
  graph.add("Cast", [scores], NEXT_TOKEN, { to: ELEMENT.float32.onnx });
  const outputs = genOutputs(config, target.asksForOutputs);
  for (const output of outputs) addOutput(graph, output);
  return outputs;
};
