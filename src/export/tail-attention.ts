import type { GuardConfig } from "../model/config.js";
import { type Graph, MICROSOFT } from "../onnx/graph.js";
import { isChunk, scalar } from "./byte-attention.js";

interface TailAttention {
  layer: number;
  /** [batch, length, heads * head_dim], normalized, not rotated. */
  q: string;
  /** [batch, length, kv_heads * head_dim], normalized, not rotated. */
  k: string;
  /** [batch, length, kv_heads * head_dim] */
  v: string;
  /** What GroupQueryAttention is told of heads and scale. */
  attributes: Record<string, number>;
  /** How many of a run's last tokens go on. */
  tail: number;
  /** Cuts the last tokens out of [batch, length, …]. */
  cutTail: (graph: Graph, input: string) => string;
}

/**
 * Adds the last layer's attention where only a run's last tokens go on, over a cache of floats. Of a chunk all tokens leave
 * their keys and values in the cache (`TensorScatter`, in place), and the last few alone ask: they are a small chunk behind
 * a copy of what is ahead of them, which takes less than the others' questions.
 *
 * @returns what those tokens take of the others, [batch, least of length and tail, heads * head_dim]
 */
export function addTailAttention(graph: Graph, config: GuardConfig, attention: TailAttention): string {
  const { layer, q, k, v, attributes, cutTail } = attention;
  // TensorScatter came with 24.
  graph.opset = 24;
  const cached = ["key", "value"].map((side) => `past.${layer}.${side}`);
  const dims = ["batch", config.kvHeads, "capacity", config.headDim];
  const branch = (name: string, add: (branch: Graph, outputs: string[]) => string) => {
    const nodes = graph.branch();
    const outputs = ["key", "value"].map((side) => `layers.${layer}.${name}.${side}`);
    nodes.output(add(nodes, outputs), "float32", ["batch", "tail", config.heads * config.headDim]);
    for (const output of outputs) nodes.output(output, "float32", dims);
    return nodes;
  };
  const mixed = `layers.${layer}.attention.mixed.tail`;
  graph.node("If", [isChunk(graph)], [mixed, `present.${layer}.key`, `present.${layer}.value`], {
    then_branch: branch("chunk", (nodes, outputs) => addChunk(nodes, config, attention, outputs)),
    else_branch: branch("step", (nodes, outputs) => {
      const all = `layers.${layer}.step.mixed`;
      nodes.node(
        "GroupQueryAttention",
        [q, k, v, ...cached, ...LENGTHS_AND_ANGLES],
        [all, ...outputs],
        attributes,
        MICROSOFT,
      );
      return cutTail(nodes, all);
    }),
  });
  return mixed;
}

const LENGTHS_AND_ANGLES = ["seqlens_k", "total_sequence_length", "rotary_cos", "rotary_sin"];

function addChunk(nodes: Graph, config: GuardConfig, attention: TailAttention, outputs: string[]): string {
  const { layer, q, k, v, attributes, tail, cutTail } = attention;
  const { kvHeads, headDim } = config;
  const name = (what: string) => `layers.${layer}.chunk.${what}`;
  const total = nodes.add("Cast", ["total_sequence_length"], name("total"), { to: 7 });
  const past = nodes.add("Sub", [total, "input_ids.length"], name("past"));
  const places = nodes.add("Range", [past, total, scalar(nodes, "one", 1)], name("places"));
  const axis = nodes.ints("axis_0", [0]);
  const positions = nodes.add("Unsqueeze", [places, axis], name("positions"));
  const begin = nodes.add("Unsqueeze", [past, axis], name("begin"));
  const ahead = nodes.add("Sub", [total, scalar(nodes, "tail", tail)], name("ahead"));
  const ends = nodes.add("Unsqueeze", [ahead, axis], name("ends"));
  const rotated = nodes.add(
    "RotaryEmbedding",
    [k, positions, "rotary_cos", "rotary_sin"],
    name("rotated"),
    { num_heads: kvHeads, rotary_embedding_dim: headDim, interleaved: 0 },
    MICROSOFT,
  );
  /** Writes keys or values into the cache; returns those ahead of the last few tokens. */
  const keep = (input: string, side: 0 | 1): string => {
    const at = (what: string) => `${outputs[side]}.${what}`;
    const split = nodes.add(
      "Reshape",
      [input, nodes.ints("kv_heads", [0, 0, kvHeads, headDim])],
      at("split"),
    );
    const heads = nodes.add("Transpose", [split], at("heads"), { perm: [0, 2, 1, 3] });
    const cached = `past.${layer}.${["key", "value"][side]}`;
    nodes.node("TensorScatter", [cached, heads, begin], [outputs[side]], { axis: -2, mode: "linear" });
    return nodes.add(
      "Slice",
      [outputs[side], nodes.ints("begin_0", [0]), ends, nodes.ints("axis_2", [2])],
      at("ahead"),
    );
  };
  const before = [keep(rotated, 0), keep(v, 1)];
  const mixed = name("mixed");
  nodes.node(
    "GroupQueryAttention",
    [...[q, k, v].map((input) => cutTail(nodes, input)), ...before, ...LENGTHS_AND_ANGLES],
    [mixed, name("key.all"), name("value.all")],
    attributes,
    MICROSOFT,
  );
  return mixed;
}
