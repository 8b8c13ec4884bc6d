import type { Dtype } from "../model/manifest.js";
import type { Graph } from "../onnx/graph.js";
import { scalar } from "./byte-attention.js";

/**
 * Formats whose kernels take weights as they lie in the file for what they are when packed. Those of int8 and int4 compute in
 * another way then, and further from the checkpoint.
 */
export const BRANCHING: readonly Dtype[] = ["fp32", "w8a8"];

/** What attention adds for a token that is none of its branch. Not the infinity: a sum with it may be no number. */
const NEVER = -1e30;

/**
 * Adds inputs of attention for one row whose tokens continue what the cache holds in several ways (tree attention): a token
 * sees what is held, and what its own branch brought before it. Input position_ids [1, length] int64: each branch begins
 * at the row's length before the run.
 *
 * @returns names of GroupQueryAttention's position_ids and attention_bias, [1, 1, length, total length] float32
 */
export function addBranches(graph: Graph): [positions: string, bias: string] {
  const positions = graph.input("position_ids", "int64", ["batch", "length"]);
  const [axis0, axis1, axis2] = [0, 1, 2].map((axis) => graph.ints(`axis_${axis}`, [axis]));
  const total = graph.add("Cast", ["total_sequence_length"], "branches.total", { to: 7 });
  const shape = graph.add("Shape", [positions], "branches.shape");
  const length = graph.add("Gather", [shape, scalar(graph, "one", 1)], "branches.length");
  const held = graph.add("Sub", [total, length], "branches.held");
  const begins = graph.add("Equal", [positions, held], "branches.begins");
  const numbers = graph.add("Cast", [begins], "branches.begins.numbers", { to: 7 });
  const branch = graph.add("CumSum", [numbers, scalar(graph, "one", 1)], "branches.branch");
  const rows = graph.add("Unsqueeze", [branch, axis2], "branches.rows");
  const columns = graph.add("Unsqueeze", [branch, axis1], "branches.columns");
  const same = graph.add("Equal", [rows, columns], "branches.same");
  const [zero, never] = [0, NEVER].map((value) =>
    graph.constant(`branches.bias_${value}`, "float32", [], Float32Array.of(value)),
  );
  const own = graph.add("Where", [same, zero, never], "branches.own");
  const before = graph.add("Unsqueeze", [held, axis0], "branches.before");
  const [two, three] = [2, 3].map((count) => graph.ints(`zeros_${count}`, new Array(count).fill(0)));
  const pads = graph.add("Concat", [two, before, three], "branches.pads", { axis: 0 });
  const padded = graph.add("Pad", [own, pads], "branches.padded");
  return [positions, graph.add("Unsqueeze", [padded, axis1], "branches.bias")];
}
