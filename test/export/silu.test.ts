import { expect, test } from "vitest";
import { addSilu } from "../../src/export/qwen3.js";
import { Graph } from "../../src/onnx/graph.js";

const operators = (target: Parameters<typeof addSilu>[3]) => {
  const graph = new Graph();
  addSilu(graph, "mlp", "gate", target);
  return graph.nodes.map(({ op }) => op);
};

test("SiLU has the activations' type, unless float32 is asked for", () => {
  expect(operators({ activation: "bfloat16", fusedQkNorm: true })).toEqual(["Sigmoid", "Mul"]);
  expect(operators({ activation: "bfloat16", fusedQkNorm: true, floatSilu: true })).toEqual([
    "Cast",
    "Sigmoid",
    "Mul",
    "Cast",
  ]);
});

test("float32 activations are never cast", () => {
  expect(operators({ activation: "float32", fusedQkNorm: false, floatSilu: true })).toEqual([
    "Sigmoid",
    "Mul",
  ]);
});
