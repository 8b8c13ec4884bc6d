import type { GuardConfig } from "./config.js";

/** The two moderators, and the heads that each has: a head is named as its labels are, its weights as in the checkpoint. */
export const MODERATORS = [
  {
    tensors: "query_risk_level_category",
    heads: [
      { name: "promptRisk", tensor: "query_risk_level_head.weight" },
      { name: "promptCategory", tensor: "query_category_head.weight" },
    ],
  },
  {
    tensors: "risk_level_category",
    heads: [
      { name: "responseRisk", tensor: "risk_level_head.weight" },
      { name: "responseCategory", tensor: "category_head.weight" },
    ],
  },
] as const;

export type HeadName = keyof GuardConfig["labels"];

export const HEAD_NAMES: HeadName[] = MODERATORS.flatMap(({ heads }) => heads.map(({ name }) => name));

/** The matrix that turns a hidden state into logits of the vocabulary: the embedding's own where they are tied. */
export function lmHeadTensor({ tieWordEmbeddings }: Pick<GuardConfig, "tieWordEmbeddings">): string {
  return tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
}

/** Every tensor a checkpoint of this configuration must hold: name → shape. */
export function expectedTensors(config: GuardConfig): Map<string, number[]> {
  const { hiddenSize, headDim, guardInnerSize, intermediateSize } = config;
  const shapes = new Map<string, number[]>();
  shapes.set("model.embed_tokens.weight", [config.vocabSize, hiddenSize]);
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}`;
    shapes.set(`${prefix}.input_layernorm.weight`, [hiddenSize]);
    shapes.set(`${prefix}.self_attn.q_proj.weight`, [config.heads * headDim, hiddenSize]);
    shapes.set(`${prefix}.self_attn.k_proj.weight`, [config.kvHeads * headDim, hiddenSize]);
    shapes.set(`${prefix}.self_attn.v_proj.weight`, [config.kvHeads * headDim, hiddenSize]);
    shapes.set(`${prefix}.self_attn.o_proj.weight`, [hiddenSize, config.heads * headDim]);
    shapes.set(`${prefix}.self_attn.q_norm.weight`, [headDim]);
    shapes.set(`${prefix}.self_attn.k_norm.weight`, [headDim]);
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [hiddenSize]);
    shapes.set(`${prefix}.mlp.gate_proj.weight`, [intermediateSize, hiddenSize]);
    shapes.set(`${prefix}.mlp.up_proj.weight`, [intermediateSize, hiddenSize]);
    shapes.set(`${prefix}.mlp.down_proj.weight`, [hiddenSize, intermediateSize]);
  }
  shapes.set("model.norm.weight", [hiddenSize]);
  if (guardInnerSize === null) return shapes.set(lmHeadTensor(config), [config.vocabSize, hiddenSize]);
  for (const { tensors, heads } of MODERATORS) {
    shapes.set(`${tensors}_pre.weight`, [guardInnerSize, hiddenSize]);
    shapes.set(`${tensors}_layernorm.weight`, [guardInnerSize]);
    for (const { name, tensor } of heads) shapes.set(tensor, [config.labels[name].length, guardInnerSize]);
  }
  return shapes;
}
