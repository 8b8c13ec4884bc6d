import { type RawConfig, shape4B, shape8B, shape06B } from "../../scripts/checkpoint/presets.js";
import { type GuardConfig, parseConfig } from "../../src/model/config.js";

/** Qwen3's dense models, as in their config.json (Qwen/Qwen3-0.6B and so on). */
const SHAPES: Record<string, RawConfig> = {
  "0.6B": shape06B,
  "1.7B": { ...shape06B, hidden_size: 2048, intermediate_size: 6144 },
  "4B": shape4B,
  "8B": shape8B,
};

/** @throws {RangeError} for a size that is none */
export function qwen3Shape(size: string): GuardConfig {
  const shape = SHAPES[size];
  if (shape) return parseConfig(shape, size);
  throw new RangeError(`Unknown size "${size}". Choose one of ${Object.keys(SHAPES).join(", ")}.`);
}
