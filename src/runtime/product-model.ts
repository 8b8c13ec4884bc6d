import { Graph, MICROSOFT } from "../onnx/graph.js";
import { encodeModel, type OnnxTensor } from "../onnx/model.js";

/** A model that multiplies bytes, `a` [rows, depth], with these, [depth, width], to `y` [rows, width], in float32. */
export function productModel(weights: Int8Array, depth: number, width: number): Uint8Array {
  const graph = new Graph();
  graph.input("a", "uint8", ["rows", depth]);
  graph.output("y", "float32", ["rows", width]);
  graph.node("MatMulIntegerToFloat", ["a", "b", "one", "one", "zero"], ["y"], {}, MICROSOFT);
  const tensors: OnnxTensor[] = [
    { name: "b", type: "int8", dims: [depth, width], data: new Uint8Array(weights.buffer) },
    { name: "one", type: "float32", dims: [], data: new Uint8Array(Float32Array.of(1).buffer) },
    { name: "zero", type: "uint8", dims: [], data: Uint8Array.of(128) },
  ];
  return encodeModel({
    producer: "",
    producerVersion: "",
    opsets: graph.opsets,
    graph: { nodes: graph.nodes, tensors, inputs: graph.inputs, outputs: graph.outputs },
  });
}
