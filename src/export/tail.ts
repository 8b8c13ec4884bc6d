import type { Graph } from "../onnx/graph.js";

/** The input by which a run says of how many of its last tokens it wants outputs. */
export const ASKED = "asked";

/** A slice that ends here goes to the end. */
const END = 2 ** 31 - 1;

/** Of [batch, length, …] as many of the last tokens as a run asks for. */
export function addAsked(graph: Graph, input: string): string {
  const length = graph.add("Shape", [input], `${input}.length`, { start: 1, end: 2 });
  const others = graph.add("Sub", [length, ASKED], `${input}.others`);
  const from = graph.add("Max", [others, graph.ints("from_0", [0])], `${input}.from`);
  return graph.add(
    "Slice",
    [input, from, graph.ints("end", [END]), graph.ints("axis_1", [1])],
    `${input}.asked`,
  );
}

/** The last tokens of [batch, length, …]. */
export function addTail(graph: Graph, input: string, count: number): string {
  const [from, to, axis] = [-count, END, 1].map((value) => graph.ints(`tail_${value}`, [value]));
  return graph.add("Slice", [input, from, to, axis], `${input}.tail`);
}
