import { CheckpointError } from "../errors.js";
import { isRecord, type Json } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";
import { Fields } from "./config-fields.js";
import { labelMap, mappedLabels, templateLabels } from "./label-maps.js";

/**
 * What a guard says its verdict with. stream: heads over each token, which a Qwen3Guard-Stream has. gen: the words that
 * it goes on with, as Qwen3Guard-Gen does.
 */
export type GuardKind = "stream" | "gen";

/** What the graph, the engine and the verdicts need to know of a guard's checkpoint. */
export interface GuardConfig {
  kind: GuardKind;
  hiddenSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  /** Width of one attention head; not always hiddenSize / heads. */
  headDim: number;
  intermediateSize: number;
  vocabSize: number;
  rmsNormEps: number;
  ropeTheta: number;
  /** Longest context the model was made for, in tokens. */
  maxPositions: number;
  tieWordEmbeddings: boolean;
  /** Width of the layer between the last hidden state and the heads; null where there are none. */
  guardInnerSize: number | null;
  /**
   * Label names in id order: `labels.responseRisk[2]` names logit 2 of the response's risk head. Of a Gen guard, whose
   * chat template names them, in the template's order.
   */
  labels: {
    promptRisk: string[];
    promptCategory: string[];
    responseRisk: string[];
    responseCategory: string[];
  };
}

const ARCHITECTURE = "Qwen3ForGuardModel";
const CAUSAL_LM = "Qwen3ForCausalLM";
/** The exported model holds two tables of rotations with a row for each; Qwen3 was trained with up to 262,144. */
const MOST_POSITIONS = 1 << 18;
const RELEASED = "Qwen/Qwen3Guard-Stream-0.6B (or -4B, -8B)";
const RELEASED_GEN = "Qwen/Qwen3Guard-Gen-0.6B (or -4B, -8B)";

/**
 * Reads config.json's content. `source` names the file in error messages; `genLabels` are those that a Gen guard's chat
 * template names, null where it is none.
 * Throws CheckpointError: CONFIG_INVALID, ARCHITECTURE_UNSUPPORTED, GUARD_HEADS_MISSING, LABELS_MISSING,
 * LABELS_INVALID, CONFIG_UNSUPPORTED.
 */
export function parseConfig(
  json: unknown,
  source: string,
  genLabels: GuardConfig["labels"] | null = null,
): GuardConfig {
  if (!isRecord(json)) {
    throw new CheckpointError(
      "CONFIG_INVALID",
      `${source} must hold a JSON object. Fetch the checkpoint again, for example ${RELEASED}.`,
    );
  }
  const fields = new Fields(json, source);
  const kind = architecture(json, source, genLabels !== null);
  checkFeatures(json, source);

  const { hiddenSize, heads, kvHeads, headDim } = attentionSizes(fields);
  return {
    kind,
    hiddenSize,
    layers: fields.integer("num_hidden_layers", 1, 1024),
    heads,
    kvHeads,
    headDim,
    intermediateSize: fields.integer("intermediate_size", 1, 1 << 22),
    vocabSize: fields.integer("vocab_size", 1, 1 << 20),
    rmsNormEps: fields.positive("rms_norm_eps", 1),
    ropeTheta: ropeTheta(fields, json),
    maxPositions: fields.integer("max_position_embeddings", 2, MOST_POSITIONS),
    tieWordEmbeddings: json.tie_word_embeddings === true,
    guardInnerSize: kind === "gen" ? null : fields.integer("guard_inner_size", 1, 1 << 20),
    labels: kind === "gen" ? templateLabels(genLabels, source) : mappedLabels(fields),
  };
}

function attentionSizes(fields: Fields): Pick<GuardConfig, "hiddenSize" | "heads" | "kvHeads" | "headDim"> {
  const heads = fields.integer("num_attention_heads", 1, 4096);
  const kvHeads = fields.integer("num_key_value_heads", 1, 4096);
  const hiddenSize = fields.integer("hidden_size", 1, 1 << 20);
  if (heads % kvHeads !== 0) {
    throw fields.invalid(
      "num_attention_heads",
      `is ${heads}, which num_key_value_heads (${kvHeads}) does not divide`,
    );
  }
  const isDerived = fields.json.head_dim == null;
  if (isDerived && hiddenSize % heads !== 0) {
    throw fields.invalid("head_dim", `is missing, and hidden_size / num_attention_heads is not whole`);
  }
  const headDim = isDerived ? hiddenSize / heads : fields.integer("head_dim", 2, 1 << 16);
  if (headDim % 2 !== 0)
    throw fields.invalid("head_dim", `is ${headDim}, but rotary positions need an even size`);
  return { hiddenSize, heads, kvHeads, headDim };
}

/** Whether a config.json is a causal LM's: a Gen guard's, if its chat template is one's. */
export function isCausalLm(json: unknown): boolean {
  return isRecord(json) && Array.isArray(json.architectures) && json.architectures.includes(CAUSAL_LM);
}

/** The fields of a config.json that reads so: to have the same checks for what was taken from one. */
export function rawConfig(config: GuardConfig): Record<string, unknown> {
  return {
    architectures: [config.kind === "gen" ? CAUSAL_LM : ARCHITECTURE],
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    intermediate_size: config.intermediateSize,
    vocab_size: config.vocabSize,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    max_position_embeddings: config.maxPositions,
    tie_word_embeddings: config.tieWordEmbeddings,
    guard_inner_size: config.guardInnerSize,
    query_risk_level_map: labelMap(config.labels?.promptRisk),
    query_category_map: labelMap(config.labels?.promptCategory),
    response_risk_level_map: labelMap(config.labels?.responseRisk),
    response_category_map: labelMap(config.labels?.responseCategory),
  };
}

function architecture(json: Json, source: string, hasGenTemplate: boolean): GuardKind {
  const architectures = Array.isArray(json.architectures) ? json.architectures : [];
  if (architectures.includes(ARCHITECTURE)) return "stream";
  if (isCausalLm(json)) {
    if (hasGenTemplate) return "gen";
    throw new CheckpointError(
      "GUARD_HEADS_MISSING",
      `${source} describes a plain Qwen3 (${CAUSAL_LM}): it has no moderation heads, and its chat template is not that of ` +
        `a Qwen3Guard-Gen, which asks for a verdict. Use a guard: ${RELEASED}, or ${RELEASED_GEN} with its own template.`,
    );
  }
  throw new CheckpointError(
    "ARCHITECTURE_UNSUPPORTED",
    `${source}: architectures is ${quoted(json.architectures)}, but only ${ARCHITECTURE} and ${CAUSAL_LM} are ` +
      `supported. Use a guard's checkpoint: ${RELEASED}, or ${RELEASED_GEN}.`,
  );
}

/** Options of a Qwen3 config that would change the computation: unread, they would give wrong verdicts. */
function checkFeatures(json: Json, source: string): void {
  const refuse = (field: string, supported: string) => {
    throw new CheckpointError(
      "CONFIG_UNSUPPORTED",
      `${source}: ${field} is ${quoted(json[field])}, but only ${supported} is supported. ` +
        `Use a checkpoint without it, for example ${RELEASED}.`,
    );
  };
  if (json.model_type !== undefined && json.model_type !== "qwen3") refuse("model_type", '"qwen3"');
  if (json.hidden_act != null && json.hidden_act !== "silu") refuse("hidden_act", '"silu"');
  if (json.attention_bias != null && json.attention_bias !== false) refuse("attention_bias", "false");
  if (json.use_sliding_window != null && json.use_sliding_window !== false)
    refuse("use_sliding_window", "false");
  if (Array.isArray(json.layer_types) && json.layer_types.some((type) => type !== "full_attention")) {
    refuse("layer_types", '"full_attention" in every layer');
  }
  if (json.quantization_config != null) refuse("quantization_config", "an unquantized checkpoint");
  for (const field of ["rope_scaling", "rope_parameters"]) {
    const rope = json[field];
    if (rope == null) continue;
    const type = isRecord(rope) ? (rope.rope_type ?? rope.type ?? "default") : rope;
    if (type !== "default") refuse(field, 'null or the type "default"');
  }
}

/** Older configs keep rope_theta at the top, those of transformers 5 in rope_parameters. */
function ropeTheta(fields: Fields, json: Json): number {
  const places = [json, json.rope_parameters, json.rope_scaling].filter(
    (place): place is Json => isRecord(place) && place.rope_theta != null,
  );
  const values = places.map((place) => fields.positive("rope_theta", 1e12, place));
  if (values.length === 0) throw fields.invalid("rope_theta", "is missing");
  if (values.some((value) => value !== values[0])) {
    throw fields.invalid("rope_theta", `is given twice with different values (${values.join(", ")})`);
  }
  return values[0];
}

/** GroupQueryAttention rotates heads whose size is a multiple of this, and no others. */
const HEAD_SIZE_STEP = 16;

/** Size of a head in the graph and its cache. */
export function paddedHeadSize(size: number): number {
  return Math.ceil(size / HEAD_SIZE_STEP) * HEAD_SIZE_STEP;
}
