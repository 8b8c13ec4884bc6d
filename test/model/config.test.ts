import { expect, test } from "vitest";
import { odd, type RawConfig, shape4B, shape8B, shape06B, tiny } from "../../scripts/checkpoint/presets.js";
import { CheckpointError } from "../../src/errors.js";
import { parseConfig } from "../../src/model/config.js";

test("reads every field of the released 0.6B config", () => {
  expect(parseConfig(shape06B, "config.json")).toEqual({
    hiddenSize: 1024,
    layers: 28,
    heads: 16,
    kvHeads: 8,
    headDim: 128,
    intermediateSize: 3072,
    vocabSize: 151936,
    rmsNormEps: 1e-6,
    ropeTheta: 1000000,
    maxPositions: 8192,
    tieWordEmbeddings: true,
    kind: "stream",
    guardInnerSize: 512,
    labels: {
      promptRisk: ["Safe", "Unsafe", "Controversial"],
      promptCategory: [
        "Violent",
        "Sexual Content or Sexual Acts",
        "Suicide & Self-Harm",
        "Politically Sensitive Topics",
        "PII",
        "Copyright Violation",
        "Non-violent Illegal Acts",
        "Unethical Acts",
        "Jailbreak",
      ],
      responseRisk: ["Safe", "Unsafe", "Controversial"],
      responseCategory: [
        "Violent",
        "Sexual Content or Sexual Acts",
        "Suicide & Self-Harm",
        "Politically Sensitive Topics",
        "PII",
        "Copyright Violation",
        "Non-violent Illegal Acts",
        "Unethical Acts",
      ],
    },
  });
});

test("labels come from the maps in id order, whatever their number and order in the file", () => {
  const map = { "2": "Unsafe", "0": "Controversial", "1": "SAFE" };
  const { labels } = parseConfig({ ...odd, response_risk_level_map: map }, "c");
  expect(labels.responseRisk).toEqual(["Controversial", "SAFE", "Unsafe"]);
  expect(labels.promptRisk).toEqual(["Unsafe", "Safe"]);
  expect(labels.promptCategory).toHaveLength(4);
  const many = Object.fromEntries(Array.from({ length: 12 }, (_, id) => [id, `C${id}`]).reverse());
  const more = parseConfig({ ...odd, query_category_map: many, num_query_category: 12 }, "c");
  expect(more.labels.promptCategory).toEqual(Array.from({ length: 12 }, (_, id) => `C${id}`));
});

test("sizes: all presets parse, a missing head_dim is derived", () => {
  expect(parseConfig(shape4B, "c").headDim).toBe(128);
  expect(parseConfig(shape8B, "c").tieWordEmbeddings).toBe(false);
  expect(parseConfig({ ...tiny, head_dim: undefined }, "c").headDim).toBe(16);
  expect(parseConfig({ ...tiny, head_dim: null }, "c").headDim).toBe(16);
  expect(parseConfig({ ...odd, head_dim: 40 }, "c").headDim).toBe(40);
});

test("rope_theta may live where newer configs keep it", () => {
  const modern = { ...tiny, rope_theta: undefined, rope_scaling: undefined };
  expect(
    parseConfig({ ...modern, rope_parameters: { rope_type: "default", rope_theta: 5e5 } }, "c").ropeTheta,
  ).toBe(5e5);
  expect(parseConfig({ ...modern, rope_scaling: { type: "default", rope_theta: 5e5 } }, "c").ropeTheta).toBe(
    5e5,
  );
  expect(() => parseConfig({ ...tiny, rope_parameters: { rope_theta: 5e5 } }, "c")).toThrow(/twice/);
});

const without = (field: keyof RawConfig) => ({ ...tiny, [field]: undefined });

test.each<[string, unknown, string, RegExp]>([
  ["no object", [], "CONFIG_INVALID", /JSON object/],
  ["null", null, "CONFIG_INVALID", /JSON object/],
  [
    "another architecture",
    { ...tiny, architectures: ["LlamaForCausalLM"] },
    "ARCHITECTURE_UNSUPPORTED",
    /LlamaForCausalLM.*Qwen3Guard-Stream/,
  ],
  ["no architecture", without("architectures"), "ARCHITECTURE_UNSUPPORTED", /Qwen3ForGuardModel/],
  [
    "a plain Qwen3",
    { ...tiny, architectures: ["Qwen3ForCausalLM"] },
    "GUARD_HEADS_MISSING",
    /Qwen\/Qwen3Guard-Stream-0.6B/,
  ],
  ["another model type", { ...tiny, model_type: "qwen2" }, "CONFIG_UNSUPPORTED", /model_type/],
  ["another activation", { ...tiny, hidden_act: "gelu" }, "CONFIG_UNSUPPORTED", /hidden_act/],
  ["attention bias", { ...tiny, attention_bias: true }, "CONFIG_UNSUPPORTED", /attention_bias/],
  ["sliding window", { ...tiny, use_sliding_window: true }, "CONFIG_UNSUPPORTED", /use_sliding_window/],
  [
    "sliding layers",
    { ...tiny, layer_types: ["full_attention", "sliding_attention"] },
    "CONFIG_UNSUPPORTED",
    /layer_types/,
  ],
  ["quantization", { ...tiny, quantization_config: {} }, "CONFIG_UNSUPPORTED", /quantization_config/],
  ["YaRN", { ...tiny, rope_scaling: { rope_type: "yarn", factor: 4 } }, "CONFIG_UNSUPPORTED", /rope_scaling/],
  [
    "old-style scaling",
    { ...tiny, rope_scaling: { type: "linear", factor: 4 } },
    "CONFIG_UNSUPPORTED",
    /rope_scaling/,
  ],
  [
    "scaling in rope_parameters",
    { ...tiny, rope_parameters: { rope_type: "yarn" } },
    "CONFIG_UNSUPPORTED",
    /rope_parameters/,
  ],
  ["no response risks", without("response_risk_level_map"), "LABELS_MISSING", /response_risk_level_map/],
  ["no prompt categories", without("query_category_map"), "LABELS_MISSING", /query_category_map/],
  ["a map that is a list", { ...tiny, query_category_map: ["a"] }, "LABELS_INVALID", /must map/],
  ["an empty map", { ...tiny, query_category_map: {} }, "LABELS_INVALID", /empty/],
  ["a count that disagrees", { ...tiny, num_category: 7 }, "LABELS_INVALID", /8 labels.*num_category is 7/],
  [
    "a gap in the ids",
    { ...odd, query_risk_level_map: { "0": "Unsafe", "2": "Safe" } },
    "LABELS_INVALID",
    /1 is missing/,
  ],
  [
    "ids that are no numbers",
    { ...odd, query_risk_level_map: { "0": "Safe", "01": "Unsafe" } },
    "LABELS_INVALID",
    /missing/,
  ],
  [
    "a name twice",
    { ...odd, query_risk_level_map: { "0": "Safe", "1": "Safe" } },
    "LABELS_INVALID",
    /two ids/,
  ],
  ["an empty name", { ...odd, query_risk_level_map: { "0": "Safe", "1": " " } }, "LABELS_INVALID", /id 1/],
  [
    "a name that steers a terminal",
    { ...odd, query_risk_level_map: { "0": "Safe", "1": "Unsafe\x1b[2J" } },
    "LABELS_INVALID",
    /id 1/,
  ],
  [
    "a name that turns the text after it",
    { ...odd, query_risk_level_map: { "0": "Safe", "1": "Unsafe\u202e" } },
    "LABELS_INVALID",
    /id 1/,
  ],
  [
    "a name of a thousand characters",
    { ...odd, query_risk_level_map: { "0": "Safe", "1": "Unsafe".repeat(200) } },
    "LABELS_INVALID",
    /id 1/,
  ],
  [
    "a name that is a number",
    { ...odd, query_risk_level_map: { "0": "Safe", "1": 1 } },
    "LABELS_INVALID",
    /id 1/,
  ],
  [
    "no safe level",
    { ...odd, query_risk_level_map: { "0": "Good", "1": "Bad" } },
    "LABELS_INVALID",
    /"Safe"/,
  ],
  [
    "two safe levels",
    { ...odd, query_risk_level_map: { "0": "Safe", "1": "SAFE" } },
    "LABELS_INVALID",
    /"Safe"/,
  ],
  ["heads not divisible", { ...tiny, num_key_value_heads: 3 }, "CONFIG_INVALID", /num_key_value_heads \(3\)/],
  ["odd head_dim", { ...tiny, head_dim: 15 }, "CONFIG_INVALID", /even/],
  ["head_dim not derivable", { ...tiny, head_dim: undefined, hidden_size: 65 }, "CONFIG_INVALID", /head_dim/],
  ["no rope_theta", without("rope_theta"), "CONFIG_INVALID", /rope_theta/],
  ["a text for a number", { ...tiny, hidden_size: "64" }, "CONFIG_INVALID", /hidden_size.*"64"/],
  ["a fraction", { ...tiny, num_hidden_layers: 2.5 }, "CONFIG_INVALID", /num_hidden_layers/],
  ["zero", { ...tiny, vocab_size: 0 }, "CONFIG_INVALID", /vocab_size/],
  ["negative eps", { ...tiny, rms_norm_eps: -1e-6 }, "CONFIG_INVALID", /rms_norm_eps/],
  ["infinite theta", { ...tiny, rope_theta: Infinity }, "CONFIG_INVALID", /rope_theta/],
  ["huge", { ...tiny, intermediate_size: 1e12 }, "CONFIG_INVALID", /intermediate_size/],
  ["no guard_inner_size", without("guard_inner_size"), "CONFIG_INVALID", /guard_inner_size.*missing/],
])("refuses %s", (_, json, code, message) => {
  let error: unknown;
  try {
    parseConfig(json, "dir/config.json");
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(CheckpointError);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  expect((error as Error).message).toContain("dir/config.json");
});
