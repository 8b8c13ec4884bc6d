import type { GuardConfig } from "../model/config.js";
import { encodeFloats } from "../onnx/float.js";
import type { Graph } from "../onnx/graph.js";
import type { BackboneOptions } from "./qwen3.js";

/**
 * cos and sin of position · theta^(−2i / head size), [positions, head size / 2]. Rounded to float32 after each step,
 * as the reference computes them. Padding is not rotated: its columns are cos 1 and sin 0.
 */
export function addRotaryTables(graph: Graph, config: GuardConfig, options: BackboneOptions): void {
  const half = config.headDim / 2;
  for (const [name, f] of [
    ["rotary_cos", Math.cos],
    ["rotary_sin", Math.sin],
  ] as const) {
    const type = options.target.activation;
    graph.initializer(name, type, [options.positions, half], async (sink) => {
      const table = new Float32Array(options.positions * half);
      for (let i = 0; i < half; i++) {
        const padding = i >= options.headSize / 2;
        const frequency = Math.fround(
          1 / Math.fround(config.ropeTheta ** Math.fround((2 * i) / options.headSize)),
        );
        for (let position = 0; position < options.positions; position++) {
          table[position * half + i] = f(padding ? 0 : Math.fround(position * frequency));
        }
      }
      await sink(encodeFloats(table, type));
    });
  }
}
