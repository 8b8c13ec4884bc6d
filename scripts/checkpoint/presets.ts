/** The fields of a Qwen3Guard-Stream config.json, as in the released checkpoints. */
export interface RawConfig {
  architectures: string[];
  model_type: string;
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  intermediate_size: number;
  vocab_size: number;
  rms_norm_eps: number;
  rope_theta: number;
  rope_scaling: unknown;
  max_position_embeddings: number;
  hidden_act: string;
  attention_bias: boolean;
  use_sliding_window: boolean;
  tie_word_embeddings: boolean;
  guard_inner_size: number;
  num_risk_level: number;
  num_category: number;
  num_query_risk_level: number;
  num_query_category: number;
  response_risk_level_map: Record<string, string>;
  response_category_map: Record<string, string>;
  query_risk_level_map: Record<string, string>;
  query_category_map: Record<string, string>;
}

function labelMap(...names: string[]): Record<string, string> {
  return Object.fromEntries(names.map((name, id) => [String(id), name]));
}

const CATEGORIES = [
  "Violent",
  "Sexual Content or Sexual Acts",
  "Suicide & Self-Harm",
  "Politically Sensitive Topics",
  "PII",
  "Copyright Violation",
  "Non-violent Illegal Acts",
  "Unethical Acts",
];

/** Qwen3Guard-Stream-0.6B. */
export const shape06B: RawConfig = {
  architectures: ["Qwen3ForGuardModel"],
  model_type: "qwen3",
  hidden_size: 1024,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 3072,
  vocab_size: 151936,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  rope_scaling: null,
  max_position_embeddings: 8192,
  hidden_act: "silu",
  attention_bias: false,
  use_sliding_window: false,
  tie_word_embeddings: true,
  guard_inner_size: 512,
  num_risk_level: 3,
  num_category: 8,
  num_query_risk_level: 3,
  num_query_category: 9,
  response_risk_level_map: labelMap("Safe", "Unsafe", "Controversial"),
  response_category_map: labelMap(...CATEGORIES),
  query_risk_level_map: labelMap("Safe", "Unsafe", "Controversial"),
  query_category_map: labelMap(...CATEGORIES, "Jailbreak"),
};

export const twoLayers06B: RawConfig = { ...shape06B, num_hidden_layers: 2 };

/** The 4B and 8B sizes of Qwen3; guard_inner_size is assumed to be that of the 0.6B. */
export const shape4B: RawConfig = {
  ...shape06B,
  hidden_size: 2560,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  intermediate_size: 9728,
};

export const shape8B: RawConfig = {
  ...shape4B,
  hidden_size: 4096,
  intermediate_size: 12288,
  tie_word_embeddings: false,
};

/** Small enough for any test. Its vocabulary suits tests on ids; widen vocab_size for a real tokenizer. */
export const tiny: RawConfig = {
  ...shape06B,
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  intermediate_size: 128,
  vocab_size: 512,
  max_position_embeddings: 2048,
  guard_inner_size: 32,
};

/** What the config.json of a Qwen3Guard-Gen has in place of a stream guard's fields. */
const GEN = { architectures: ["Qwen3ForCausalLM"], max_position_embeddings: 32768 };

/** Qwen3Guard-Gen's sizes: the 0.6B and 4B with tied embeddings, the 8B with a head of its own. */
export const gen06B: RawConfig = { ...shape06B, ...GEN };
export const gen4B: RawConfig = { ...shape4B, ...GEN };
export const gen8B: RawConfig = { ...shape8B, ...GEN };
export const genTwoLayers06B: RawConfig = { ...gen06B, num_hidden_layers: 2 };

/** Whatever could be mistaken for a constant differs from the released checkpoints. */
export const odd: RawConfig = {
  ...shape06B,
  hidden_size: 80,
  num_hidden_layers: 5,
  num_attention_heads: 10,
  num_key_value_heads: 2,
  head_dim: 24,
  intermediate_size: 176,
  vocab_size: 517,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  max_position_embeddings: 640,
  tie_word_embeddings: false,
  guard_inner_size: 48,
  num_risk_level: 3,
  num_category: 5,
  num_query_risk_level: 2,
  num_query_category: 4,
  response_risk_level_map: labelMap("Controversial", "Safe", "Unsafe"),
  response_category_map: labelMap("Fraud", "Harassment", "Weapons", "Malware", "Other"),
  query_risk_level_map: labelMap("Unsafe", "Safe"),
  query_category_map: labelMap("Prompt Injection", "Weapons", "Fraud", "Other"),
};

/** Small Gen guards for any test: the vocabulary is the embedded model's. One has tied embeddings, one its own LM head. */
export const genTiny: RawConfig = { ...tiny, ...GEN, vocab_size: 8192, max_position_embeddings: 2048 };
export const genOdd: RawConfig = { ...odd, ...GEN, vocab_size: 8205, max_position_embeddings: 2048 };
