import { paddedHeadSize } from "../model/config.js";
import type { WeightSource } from "./weights.js";

/**
 * A checkpoint as the attention kernel can take it: heads of any even size are padded with zeros to the next multiple
 * of 16, which changes no result. Zeros add nothing to a product of q and k, nor to what v mixes; the two halves that
 * the rotation pairs are padded each by itself; and since the norm of a padded head divides by more values than there
 * are, its weight and epsilon make up for that (see `addBackbone` for the epsilon).
 */
export function padHeads(source: WeightSource): WeightSource {
  const { config } = source;
  const size = config.headDim;
  const padded = paddedHeadSize(size);
  if (padded === size) return source;

  /** Where each value of a head goes: as it is, or in two halves. */
  const straight = Array.from({ length: size }, (_, i) => i);
  const halves = straight.map((i) => (i < size / 2 ? i : i - size / 2 + padded / 2));

  const read = async (name: string): Promise<Float32Array> => {
    const values = await source.read(name);
    const [, kind] = /self_attn\.(\w+)\.weight$/.exec(name) ?? [];
    switch (kind) {
      case "q_proj":
      case "k_proj":
        return spread(values, halves, config.hiddenSize);
      case "v_proj":
        return spread(values, straight, config.hiddenSize);
      case "o_proj":
        return spread(values, straight, 1);
      case "q_norm":
      case "k_norm":
        return spread(values, halves, 1).map((value) => value * Math.sqrt(size / padded));
      default:
        return values;
    }
  };

  /** Copies each head's groups of `width` values to their places in a larger head. */
  function spread(values: Float32Array, places: number[], width: number): Float32Array {
    const heads = values.length / (size * width);
    const result = new Float32Array(heads * padded * width);
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < size; i++) {
        const from = (head * size + i) * width;
        result.set(values.subarray(from, from + width), (head * padded + places[i]) * width);
      }
    }
    return result;
  }

  async function* rows(name: string, rowsPerBlock?: number) {
    if (!name.includes(".self_attn.")) {
      yield* source.rows(name, rowsPerBlock);
      return;
    }
    const width = name.includes(".o_proj.") ? config.heads * padded : config.hiddenSize;
    const values = await read(name);
    const step = (rowsPerBlock ?? values.length / width) * width;
    for (let at = 0; at < values.length; at += step) {
      yield { row: at / width, data: values.subarray(at, at + step) };
    }
  }

  return { config: { ...config, headDim: padded }, read, rows };
}
