import type { GuardConfig } from "./config.js";

/** Every tensor a Qwen3Guard-Stream checkpoint of this configuration must hold: name → shape. */
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
  for (const [prefix, risks, categories] of [
    ["query_", config.labels.promptRisk, config.labels.promptCategory],
    ["", config.labels.responseRisk, config.labels.responseCategory],
  ] as const) {
    shapes.set(`${prefix}risk_level_category_pre.weight`, [guardInnerSize, hiddenSize]);
    shapes.set(`${prefix}risk_level_category_layernorm.weight`, [guardInnerSize]);
    shapes.set(`${prefix}risk_level_head.weight`, [risks.length, guardInnerSize]);
    shapes.set(`${prefix}category_head.weight`, [categories.length, guardInnerSize]);
  }
  return shapes;
}
