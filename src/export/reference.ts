import { lmHeadTensor, MODERATORS } from "../model/architecture.js";
import { genOutputs } from "../model/guard-outputs.js";
import { testedColumns, testedPositions } from "../model/self-test.js";
import { Product } from "./product.js";
import type { WeightSource } from "./weights.js";

/** Rows of numbers, one for each token: [tokens, width]. */
interface Rows {
  data: Float32Array;
  width: number;
}

/**
 * What a guard says of each token of a short sequence, computed from the checkpoint's tensors in float32 as the
 * architecture is defined: one layer after the other, no cache. Neither graph nor weight formats nor anything that was
 * written takes part, so an export can be held against it. Memory stays bounded whatever the model's size.
 *
 * @returns each head's logits, [tokens, labels]; of an LM head those that a self-test keeps
 * @throws {CheckpointError} NON_FINITE_WEIGHT
 */
export async function referenceLogits(
  source: WeightSource,
  ids: readonly number[],
  onLayer?: (done: number, total: number) => void,
): Promise<Record<string, Float32Array>> {
  const { config } = source;
  const product = await Product.create(source, ids.length);
  try {
    let x = await embed(source, ids);
    for (let layer = 0; layer < config.layers; layer++) {
      x = await decoderLayer(source, product, layer, x);
      onLayer?.(layer + 1, config.layers);
    }
    const hidden = await norm(source, "model.norm.weight", x);
    if (config.kind === "gen") return await lmHead(source, hidden);
    const logits: Record<string, Float32Array> = {};
    for (const { tensors, heads } of MODERATORS) {
      const pre = await product.rows(hidden, `${tensors}_pre.weight`, config.guardInnerSize as number);
      const inner = await norm(source, `${tensors}_layernorm.weight`, pre);
      for (const { name, tensor } of heads) {
        logits[name] = (await product.rows(inner, tensor, config.labels[name].length)).data;
      }
    }
    return logits;
  } finally {
    product.release();
  }
}

/** The logits that a self-test keeps: of some positions, for some tokens of the vocabulary. */
async function lmHead(source: WeightSource, { data, width }: Rows): Promise<Record<string, Float32Array>> {
  const [output] = genOutputs(source.config);
  const positions = testedPositions(output, data.length / width);
  const columns = testedColumns(output);
  const place = new Map(columns.map((column, i) => [column, i]));
  const logits = new Float32Array(positions.length * columns.length);
  for await (const block of source.rows(lmHeadTensor(source.config))) {
    for (let row = 0; row < block.data.length / width; row++) {
      const column = place.get(block.row + row);
      if (column === undefined) continue;
      positions.forEach((position, i) => {
        let sum = 0;
        for (let j = 0; j < width; j++) sum += data[position * width + j] * block.data[row * width + j];
        logits[i * columns.length + column] = sum;
      });
    }
  }
  return { [output.name]: logits };
}

async function decoderLayer(source: WeightSource, product: Product, layer: number, x: Rows): Promise<Rows> {
  const { heads, kvHeads, headDim, hiddenSize, intermediateSize } = source.config;
  const tensor = (name: string) => `model.layers.${layer}.${name}.weight`;
  const input = await norm(source, tensor("input_layernorm"), x);
  const project = (name: string, count: number) =>
    product.rows(input, tensor(`self_attn.${name}_proj`), count * headDim);
  const q = rotate(await norm(source, tensor("self_attn.q_norm"), await project("q", heads)), source);
  const k = rotate(await norm(source, tensor("self_attn.k_norm"), await project("k", kvHeads)), source);
  const mixed = attend(q, k, await project("v", kvHeads), source);
  const attended = add(x, await product.rows(mixed, tensor("self_attn.o_proj"), hiddenSize));

  const normed = await norm(source, tensor("post_attention_layernorm"), attended);
  const gate = await product.rows(normed, tensor("mlp.gate_proj"), intermediateSize);
  const up = await product.rows(normed, tensor("mlp.up_proj"), intermediateSize);
  const inner = { ...up, data: up.data.map((u, i) => (u * gate.data[i]) / (1 + Math.exp(-gate.data[i]))) };
  return add(attended, await product.rows(inner, tensor("mlp.down_proj"), hiddenSize));
}

async function embed(source: WeightSource, ids: readonly number[]): Promise<Rows> {
  const width = source.config.hiddenSize;
  const data = new Float32Array(ids.length * width);
  for await (const block of source.rows("model.embed_tokens.weight")) {
    ids.forEach((id, token) => {
      const at = (id - block.row) * width;
      if (at >= 0 && at < block.data.length) data.set(block.data.subarray(at, at + width), token * width);
    });
  }
  return { data, width };
}

/** RMSNorm over pieces as long as the weight: whole rows, or each head of a row. */
async function norm(source: WeightSource, tensor: string, { data, width }: Rows): Promise<Rows> {
  const weight = await source.read(tensor);
  const result = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += weight.length) {
    let squares = 0;
    for (let i = 0; i < weight.length; i++) squares += data[at + i] ** 2;
    const scale = 1 / Math.sqrt(squares / weight.length + source.config.rmsNormEps);
    for (let i = 0; i < weight.length; i++) result[at + i] = data[at + i] * scale * weight[i];
  }
  return { data: result, width };
}

/** Rotary positions: each head's first half is turned against its second. */
function rotate({ data, width }: Rows, { config: { headDim, ropeTheta } }: WeightSource): Rows {
  const half = headDim / 2;
  const result = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += headDim) {
    const position = Math.floor(at / width);
    for (let i = 0; i < half; i++) {
      const angle = position / ropeTheta ** (i / half);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const [a, b] = [data[at + i], data[at + half + i]];
      result[at + i] = a * cos - b * sin;
      result[at + half + i] = b * cos + a * sin;
    }
  }
  return { data: result, width };
}

/** Causal attention; neighbouring query heads share a head of keys and values. */
function attend(q: Rows, k: Rows, v: Rows, { config: { heads, kvHeads, headDim } }: WeightSource): Rows {
  const tokens = q.data.length / q.width;
  const data = new Float32Array(q.data.length);
  const scores = new Float64Array(tokens);
  for (let head = 0; head < heads; head++) {
    const shared = Math.floor(head / (heads / kvHeads)) * headDim;
    for (let token = 0; token < tokens; token++) {
      const query = token * q.width + head * headDim;
      let highest = Number.NEGATIVE_INFINITY;
      for (let past = 0; past <= token; past++) {
        let sum = 0;
        for (let i = 0; i < headDim; i++) sum += q.data[query + i] * k.data[past * k.width + shared + i];
        scores[past] = sum / Math.sqrt(headDim);
        highest = Math.max(highest, scores[past]);
      }
      let total = 0;
      for (let past = 0; past <= token; past++) total += scores[past] = Math.exp(scores[past] - highest);
      for (let past = 0; past <= token; past++) {
        const share = scores[past] / total;
        for (let i = 0; i < headDim; i++) data[query + i] += share * v.data[past * v.width + shared + i];
      }
    }
  }
  return { data, width: q.width };
}

function add(a: Rows, b: Rows): Rows {
  return { data: a.data.map((x, i) => x + b.data[i]), width: a.width };
}
