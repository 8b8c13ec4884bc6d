import type { GuardConfig } from "../model/config.js";
import { type Graph, MICROSOFT } from "../onnx/graph.js";

/** What one step of the int8 cache stands for, [kv_heads, head_dim] float32, for a layer's keys and values. */
export interface CacheScales {
  key: Float32Array;
  value: Float32Array;
}

/** From this many tokens of a single row on, attention over floats costs less than over bytes (measured). */
const CHUNK = 24;

interface ByteAttention {
  layer: number;
  /** [batch, length, heads * head_dim], normalized, not rotated. */
  q: string;
  /** [batch, length, kv_heads * head_dim], normalized, not rotated. */
  k: string;
  /** [batch, length, kv_heads * head_dim] */
  v: string;
  scales: CacheScales;
  /** What GroupQueryAttention is told of heads and scale. */
  attributes: Record<string, number>;
}

/**
 * Adds attention over an int8 cache: `layers.N.attention.mixed`, and the cache's next state. ONNX Runtime's kernel for
 * it turns every key into floats anew for every query, which is right for a token alone and ruins a prompt. A chunk
 * turns the cache into floats once, writes its own keys and values into it, and reads both with the float kernel.
 */
export function addByteAttention(graph: Graph, config: GuardConfig, attention: ByteAttention): void {
  const { layer } = attention;
  // TensorScatter came with 24.
  graph.opset = 24;
  const cache = ["batch", config.kvHeads, "capacity", config.headDim];
  const branch = (name: string, add: (branch: Graph, outputs: string[]) => void) => {
    const nodes = graph.branch();
    const outputs = ["mixed", "key", "value"].map((output) => `layers.${layer}.${name}.${output}`);
    add(nodes, outputs);
    nodes.output(outputs[0], "float32", ["batch", "length", config.heads * config.headDim]);
    nodes.output(outputs[1], "int8", cache);
    nodes.output(outputs[2], "int8", cache);
    return nodes;
  };
  graph.node(
    "If",
    [isChunk(graph)],
    [`layers.${layer}.attention.mixed`, `present.${layer}.key`, `present.${layer}.value`],
    {
      then_branch: branch("chunk", (nodes, outputs) => addChunk(nodes, config, attention, outputs)),
      else_branch: branch("step", (nodes, outputs) => addStep(nodes, config, attention, outputs)),
    },
  );
}

/** Whether a run brings a chunk, and how many tokens it brings, as `input_ids.length`: one value for all layers. */
export function isChunk(graph: Graph): string {
  const name = "is_chunk";
  if (graph.nodes.some(({ outputs }) => outputs[0] === name)) return name;
  const shape = graph.add("Shape", ["input_ids"], "input_ids.shape");
  const length = graph.add("Gather", [shape, scalar(graph, "one", 1)], "input_ids.length");
  return graph.add("GreaterOrEqual", [length, scalar(graph, "chunk_length", CHUNK)], name);
}

/** ONNX Runtime's own: writes the new keys and values, and reads the cache as it is. */
function addStep(nodes: Graph, config: GuardConfig, attention: ByteAttention, outputs: string[]): void {
  const { layer, q, k, v, scales, attributes } = attention;
  const dims = [config.kvHeads, 1, config.headDim];
  nodes.node(
    "GroupQueryAttention",
    [
      ...[q, k, v, `past.${layer}.key`, `past.${layer}.value`],
      ...["seqlens_k", "total_sequence_length", "rotary_cos", "rotary_sin"],
      // Position ids, attention bias and head sink.
      ...["", "", ""],
      nodes.constant(`layers.${layer}.key_scale`, "float32", dims, scales.key),
      nodes.constant(`layers.${layer}.value_scale`, "float32", dims, scales.value),
    ],
    outputs,
    { ...attributes, kv_cache_bit_width: 8, k_quant_type: "PER_CHANNEL", v_quant_type: "PER_CHANNEL" },
    MICROSOFT,
  );
}

/**
 * The cache's bytes as floats, as they are: a channel's scale goes to the queries before, and to what the values mix
 * after, which multiplies once a token instead of once a token and position.
 */
function addChunk(nodes: Graph, config: GuardConfig, attention: ByteAttention, outputs: string[]): void {
  const { layer, q, k, v, scales, attributes } = attention;
  const { heads, kvHeads, headDim } = config;
  const name = (what: string) => `layers.${layer}.chunk.${what}`;
  const total = nodes.add("Cast", ["total_sequence_length"], name("total"), { to: 7 });
  const past = nodes.add("Sub", [total, "input_ids.length"], name("past"));
  const places = nodes.add("Range", [past, total, scalar(nodes, "one", 1)], name("places"));
  const positions = nodes.add("Unsqueeze", [places, nodes.ints("axis_0", [0])], name("positions"));
  const begin = nodes.add("Unsqueeze", [past, nodes.ints("axis_0", [0])], name("begin"));

  const one = nodes.constant("byte_step", "float32", [], Float32Array.of(1));
  const zero = nodes.constant("byte_zero", "int8", [], Int8Array.of(0));
  const rotated = (input: string, output: string, count: number) =>
    nodes.add(
      "RotaryEmbedding",
      [input, positions, "rotary_cos", "rotary_sin"],
      name(output),
      { num_heads: count, rotary_embedding_dim: headDim, interleaved: 0 },
      MICROSOFT,
    );
  const scaled = (input: string, side: "key" | "value", output: string) => {
    const shared = repeat(scales[side], headDim, heads / kvHeads);
    const factor = nodes.constant(name(`${side}_factor`), "float32", [shared.length], shared);
    return nodes.add("Mul", [input, factor], output);
  };
  /** Quantizes new keys or values, writes them into the cache, and returns them and the older ones as floats. */
  const keep = (input: string, side: "key" | "value", output: string) => {
    const at = (what: string) => name(`${side}.${what}`);
    const inverse = scales[side].map((scale) => 1 / scale);
    const steps = nodes.add(
      "Mul",
      [input, nodes.constant(at("inverse"), "float32", [inverse.length], inverse)],
      at("steps"),
    );
    // With a scale for each channel this operator takes a hundred times as long.
    const bytes = nodes.add("QuantizeLinear", [steps, one, zero], at("bytes"));
    const split = nodes.add(
      "Reshape",
      [bytes, nodes.ints("kv_heads", [0, 0, kvHeads, headDim])],
      at("split"),
    );
    const heads = nodes.add("Transpose", [split], at("heads"), { perm: [0, 2, 1, 3] });
    const cached = `past.${layer}.${side}`;
    const older = nodes.add(
      "Slice",
      [cached, nodes.ints("begin_0", [0]), begin, nodes.ints("axis_2", [2])],
      at("older"),
    );
    const floats = nodes.add("Cast", [older], at("older.floats"), { to: 1 });
    nodes.node("TensorScatter", [cached, heads, begin], [output], { axis: -2, mode: "linear" });
    return [nodes.add("Cast", [bytes], at("floats"), { to: 1 }), floats];
  };

  const [keys, olderKeys] = keep(rotated(k, "k", kvHeads), "key", outputs[1]);
  const [values, olderValues] = keep(v, "value", outputs[2]);
  nodes.node(
    "GroupQueryAttention",
    [
      ...[scaled(rotated(q, "q", heads), "key", name("q.scaled")), keys, values, olderKeys, olderValues],
      ...["seqlens_k", "total_sequence_length"],
    ],
    [name("sums"), name("key.all"), name("value.all")],
    { ...attributes, do_rotary: 0 },
    MICROSOFT,
  );
  scaled(name("sums"), "value", outputs[0]);
}

/** [kv_heads * head_dim] for the heads that share them: [heads * head_dim]. */
function repeat(scales: Float32Array, headDim: number, times: number): Float32Array {
  const repeated = new Float32Array(scales.length * times);
  for (let i = 0; i < repeated.length; i++) {
    const head = Math.floor(i / (headDim * times));
    repeated[i] = scales[head * headDim + (i % headDim)];
  }
  return repeated;
}

export function scalar(graph: Graph, name: string, value: number): string {
  return graph.constant(name, "int64", [], BigInt64Array.of(BigInt(value)));
}
