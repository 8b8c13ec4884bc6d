import type { GuardConfig } from "../model/config.js";
import type { FloatType } from "../onnx/float.js";
import { type Graph, MICROSOFT } from "../onnx/graph.js";
import { ELEMENT } from "../runtime/tensor.js";
import { addBranches } from "./branches.js";
import { addByteAttention, type CacheScales } from "./byte-attention.js";
import { addRotaryTables } from "./rotary.js";
import { ASKED, addAsked, addTail } from "./tail.js";
import { addTailAttention } from "./tail-attention.js";
import { type Matrix, type Unscaled, vector, type WeightFormat, type WeightSource } from "./weights.js";

/** What differs between one device's kernels and another's. */
export interface Target {
  /** Type of the activations. The CPU's kernels want float32, a GPU's attention the 16-bit types. */
  activation: FloatType;
  /** GroupQueryAttention normalizes q and k itself: the CPU kernel refuses those inputs. */
  fusedQkNorm: boolean;
  /** Whether attention takes q, k and v as one input, which saves cutting them apart; with `fusedQkNorm` alone. */
  packedQkv?: boolean;
  /** Whether a run says of how many of its last tokens, where only those have outputs, it wants any. */
  asksForOutputs?: boolean;
  /** Whether SiLU is computed in float32 where activations are of 16 bits: see `addSilu`. */
  floatSilu?: boolean;
}

export interface BackboneOptions {
  weights: WeightFormat;
  target: Target;
  /** One entry a layer makes the cache int8; without, it has the activations' type. */
  cacheScales?: CacheScales[];
  /** The model's own head size. `config.headDim` is what the kernel gets, and may be padded. */
  headSize: number;
  /** Positions the rotary tables cover; the cache may not be longer. */
  positions: number;
  /** Of how many of a run's last tokens the hidden state is wanted; of a run with fewer all. Default: of every token. */
  tail?: number;
  /** Whether a run brings several branches of one row, and nothing else: see `addBranches`. */
  branches?: boolean;
}

/**
 * What is left of the epsilon of a norm over numbers that lack a factor f: it stands for epsilon / f², which is of no account
 * beside what a model's weights give.
 */
const UNSCALED_EPSILON = 1e-6;

/**
 * Adds the Qwen3 decoder: embedding, layers of grouped-query attention over a cache that is bound from outside,
 * SwiGLU, final norm. One graph serves prefill, chunks, single tokens and ragged batches.
 *
 * Inputs: input_ids [batch, length] int64; seqlens_k [batch] int32, each row's length after this run minus one;
 * total_sequence_length int32 scalar, the longest row's length after this run; past.N.key and past.N.value
 * [batch, kv_heads, capacity, head_dim]; with `tail`, where the target has it, asked [1] int64. Outputs: present.N.key and present.N.value, to be bound to the same memory.
 *
 * @returns the name of the last hidden state after the final norm, [batch, length, hidden], length at most `tail`
 */
export function addBackbone(graph: Graph, source: WeightSource, options: BackboneOptions): string {
  const { config } = source;
  const { activation } = options.target;
  const ids = graph.input("input_ids", "int64", ["batch", "length"]);
  graph.input("seqlens_k", "int32", ["batch"]);
  graph.input("total_sequence_length", "int32", []);
  addRotaryTables(graph, config, options);
  const branches = options.branches ? addBranches(graph) : [];

  const table = matrix("model.embed_tokens.weight", config.vocabSize, config.hiddenSize);
  let residual = options.weights.embed(graph, "embedding", ids, table);
  let hidden = graph.add(
    "SimplifiedLayerNormalization",
    [residual, norm(0, "input_layernorm")],
    "layers.0.input",
    { axis: -1, epsilon: config.rmsNormEps, stash_type: 1 },
  );
  for (let layer = 0; layer < config.layers; layer++) {
    const name = `layers.${layer}`;
    // Behind the last keys and values nothing else is asked of the other tokens.
    const tail = layer + 1 === config.layers ? options.tail : undefined;
    let mixed = addAttention(graph, source, options, { layer, hidden, tail, branches });
    if (tail !== undefined) residual = addTail(graph, residual, tail);
    if (tail !== undefined && options.target.asksForOutputs) {
      graph.input(ASKED, "int64", [1]);
      [mixed, residual] = [mixed, residual].map((input) => addAsked(graph, input));
      graph.mayBeEmpty = true;
    }
    const attention = options.weights.linear(graph, `${name}.attention.out`, mixed, [
      matrix(
        `model.layers.${layer}.self_attn.o_proj.weight`,
        config.hiddenSize,
        config.heads * config.headDim,
      ),
    ]);
    [hidden, residual] = addNorm(
      `${name}.post_attention`,
      residual,
      attention,
      norm(layer, "post_attention_layernorm"),
    );
    const mlp = addMlp(graph, config, options, layer, hidden);
    const next =
      layer + 1 < config.layers
        ? norm(layer + 1, "input_layernorm")
        : vector(graph, source, "model.norm.weight", config.hiddenSize, activation);
    [hidden, residual] = addNorm(`${name}.output`, residual, mlp, next);
  }
  return hidden;

  function norm(layer: number, which: string): string {
    return vector(graph, source, `model.layers.${layer}.${which}.weight`, config.hiddenSize, activation);
  }

  /** Residual addition and RMSNorm in one kernel: returns [normalized, sum]. */
  function addNorm(name: string, sum: string, delta: string, weight: string): [string, string] {
    graph.node(
      "SkipSimplifiedLayerNormalization",
      [sum, delta, weight],
      [`${name}.norm`, "", "", `${name}.residual`],
      { epsilon: config.rmsNormEps },
      MICROSOFT,
    );
    return [`${name}.norm`, `${name}.residual`];
  }
}

interface LayerInput {
  layer: number;
  hidden: string;
  /** How many of a run's last tokens go on, if not all do. */
  tail: number | undefined;
  /** What `addBranches` gives, if the run brings branches. */
  branches: string[];
}

/** What each token takes of the others, before `o_proj`: [batch, length, heads · head_dim] */
function addAttention(
  graph: Graph,
  source: WeightSource,
  options: BackboneOptions,
  { layer, hidden, tail, branches }: LayerInput,
): string {
  const { config } = source;
  const { target, headSize, cacheScales } = options;
  const name = `layers.${layer}.attention`;
  const { q, k, v, norms } = addQueries(graph, source, options, layer, hidden);
  addCache(graph, config, layer, cacheScales ? "int8" : target.activation);
  const attributes = {
    num_heads: config.heads,
    kv_num_heads: config.kvHeads,
    do_rotary: 1,
    rotary_interleaved: 0,
    scale: 1 / Math.sqrt(headSize),
  };
  if (tail !== undefined && !cacheScales && !target.fusedQkNorm) {
    const cutTail = (nodes: Graph, input: string) => addTail(nodes, input, tail);
    return addTailAttention(graph, config, { layer, q, k, v, attributes, tail, cutTail });
  }
  if (cacheScales) {
    addByteAttention(graph, config, { layer, q, k, v, scales: cacheScales[layer], attributes });
  } else {
    graph.node(
      "GroupQueryAttention",
      [
        ...[q, k, v, `past.${layer}.key`, `past.${layer}.value`],
        ...["seqlens_k", "total_sequence_length", "rotary_cos", "rotary_sin"],
        // Position ids, attention bias, head sink and the cache's scales come before the norms.
        ...(target.fusedQkNorm ? ["", "", "", "", "", ...norms] : branches),
      ],
      [`${name}.mixed`, `present.${layer}.key`, `present.${layer}.value`],
      target.fusedQkNorm ? { ...attributes, qk_norm_epsilon: headEpsilon(config, headSize) } : attributes,
      MICROSOFT,
    );
  }
  return tail === undefined ? `${name}.mixed` : addTail(graph, `${name}.mixed`, tail);
}

/** Queries, keys and values as the kernel takes them, and the weights of their norms; packed, all are in `q`. */
function addQueries(
  graph: Graph,
  source: WeightSource,
  { weights, target, headSize, cacheScales }: BackboneOptions,
  layer: number,
  hidden: string,
): { q: string; k: string; v: string; norms: [q: string, k: string] } {
  const { config } = source;
  const name = `layers.${layer}.attention`;
  const tensors = `model.layers.${layer}.self_attn`;
  const qSize = config.heads * config.headDim;
  const kvSize = config.kvHeads * config.headDim;
  const projections = [
    matrix(`${tensors}.q_proj.weight`, qSize, config.hiddenSize),
    matrix(`${tensors}.k_proj.weight`, kvSize, config.hiddenSize),
    matrix(`${tensors}.v_proj.weight`, kvSize, config.hiddenSize),
  ];
  let [q, k, v] = ["q", "k", "v"].map((part) => `${name}.${part}`);
  let epsilon = headEpsilon(config, headSize);
  if (weights.oneByOne) {
    // A norm takes any factor of a token out again.
    [q, k] = [q, k].map((part, i) => addUnscaled(graph, weights, part, hidden, [projections[i]]).values);
    weights.linear(graph, v, hidden, [projections[2]]);
    if (weights.unscaled) epsilon *= UNSCALED_EPSILON;
  } else {
    const qkv = weights.linear(graph, `${name}.qkv`, hidden, projections);
    // Three parts: cut in two, a matrix's halves get addresses in pinned memory, which a CUDA capture does not allow.
    const sizes = () => graph.ints("qkv_sizes", [qSize, kvSize, kvSize]);
    if (target.packedQkv && target.fusedQkNorm && !cacheScales) [q, k, v] = [qkv, "", ""];
    else graph.node("Split", [qkv, sizes()], [q, k, v], { axis: -1 });
  }
  const qNorm = vector(graph, source, `${tensors}.q_norm.weight`, config.headDim, target.activation);
  const kNorm = vector(graph, source, `${tensors}.k_norm.weight`, config.headDim, target.activation);
  if (!target.fusedQkNorm) {
    q = addHeadNorm(graph, config, epsilon, q, qNorm, config.heads);
    k = addHeadNorm(graph, config, epsilon, k, kNorm, config.kvHeads);
  }
  return { q, k, v, norms: [qNorm, kNorm] };
}

function addCache(graph: Graph, { kvHeads, headDim }: GuardConfig, layer: number, type: FloatType | "int8") {
  const shape = ["batch", kvHeads, "capacity", headDim];
  for (const side of ["key", "value"]) {
    graph.input(`past.${layer}.${side}`, type, shape);
    graph.output(`present.${layer}.${side}`, type, shape);
  }
}

/** A padded head's mean of squares is smaller by the share of padding, and so must epsilon be. */
function headEpsilon({ rmsNormEps, headDim }: GuardConfig, headSize: number): number {
  return rmsNormEps * (headSize / headDim);
}

/** RMSNorm over each head of q or k, before the rotation. */
function addHeadNorm(
  graph: Graph,
  config: GuardConfig,
  epsilon: number,
  input: string,
  weight: string,
  heads: number,
): string {
  const split = graph.ints(`heads_${heads}`, [0, 0, heads, config.headDim]);
  const merged = graph.ints(`merged_${heads}`, [0, 0, heads * config.headDim]);
  const perHead = graph.add("Reshape", [input, split], `${input}.heads`);
  const normed = graph.add("SimplifiedLayerNormalization", [perHead, weight], `${input}.normed`, {
    axis: -1,
    epsilon,
    stash_type: 1,
  });
  return graph.add("Reshape", [normed, merged], `${input}.merged`);
}

function addMlp(
  graph: Graph,
  config: GuardConfig,
  { weights, target }: BackboneOptions,
  layer: number,
  hidden: string,
): string {
  const name = `layers.${layer}.mlp`;
  const tensors = `model.layers.${layer}.mlp`;
  const inner = (projection: string) => [
    matrix(`${tensors}.${projection}.weight`, config.intermediateSize, config.hiddenSize),
  ];
  const gate = weights.linear(graph, `${name}.gate`, hidden, inner("gate_proj"));
  const up = addUnscaled(graph, weights, `${name}.up`, hidden, inner("up_proj"));
  const silu = addSilu(graph, name, gate, target);
  const product = graph.add("Mul", [silu, up.values], `${name}.product`);
  const down = matrix(`${tensors}.down_proj.weight`, config.hiddenSize, config.intermediateSize);
  return weights.linear(graph, `${name}.down`, product, [down], up.factor);
}

function addUnscaled(
  graph: Graph,
  weights: WeightFormat,
  name: string,
  input: string,
  sources: Matrix[],
): Unscaled {
  return (
    weights.unscaled?.(graph, name, input, sources) ?? {
      values: weights.linear(graph, name, input, sources),
    }
  );
}

/**
 * x · sigmoid(x). ONNX Runtime makes one QuickGelu of it, which in bfloat16 rounds after each of its steps on a GPU: the
 * sigmoid of −6 becomes 0, and silu(−6) with it, where −0.0148 is right. `floatSilu` casts to float32 before and back
 * after, for two more kernels a layer.
 */
export function addSilu(graph: Graph, name: string, gate: string, target: Target): string {
  const widened = target.floatSilu && target.activation !== "float32";
  const x = widened ? graph.add("Cast", [gate], `${name}.gate.float`, { to: ELEMENT.float32.onnx }) : gate;
  const sigmoid = graph.add("Sigmoid", [x], `${name}.sigmoid`);
  const silu = graph.add("Mul", [x, sigmoid], `${name}.silu`);
  if (!widened) return silu;
  return graph.add("Cast", [silu], `${name}.silu.rounded`, { to: ELEMENT[target.activation].onnx });
}

function matrix(tensor: string, rows: number, columns: number): Matrix {
  return { tensor, rows, columns };
}
