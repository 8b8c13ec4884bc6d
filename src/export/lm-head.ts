import { lmHeadTensor } from "../model/architecture.js";
import type { GuardConfig } from "../model/config.js";
import type { ModelOutput } from "../model/outputs.js";
import { ELEMENT } from "../runtime/tensor.js";
import { type AddOutputs, addOutput } from "./outputs.js";

/** The name of a Gen guard's one output: a logit for each token of its vocabulary. */
export const NEXT_TOKEN = "nextToken";

/**
 * A verdict's words that are read in one run: from "Safety:" to the end of " Safe\nCategories: None\nRefusal:", or from a
 * category's first token to the "Refusal:" behind it.
 */
export const TAIL = 10;

export function genOutputs({ vocabSize }: Pick<GuardConfig, "vocabSize">): ModelOutput[] {
  return [{ name: NEXT_TOKEN, width: vocabSize, position: "tail", tail: TAIL }];
}

/**
 * Adds the LM head. The backbone gives the last tokens of each run alone: what a prompt's other tokens would go on with is
 * nobody's question, and costs as much as several layers.
 */
export const addLmHead: AddOutputs = (graph, { config }, hidden, { headWeights }) => {
  const matrix = { tensor: lmHeadTensor(config), rows: config.vocabSize, columns: config.hiddenSize };
  const scores = headWeights.linear(graph, "lm_head", hidden, [matrix]);
  graph.add("Cast", [scores], NEXT_TOKEN, { to: ELEMENT.float32.onnx });
  const outputs = genOutputs(config);
  for (const output of outputs) addOutput(graph, output);
  return outputs;
};
