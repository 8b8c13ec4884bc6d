import { Engine } from "../engine/engine.js";
import { ClosedError } from "../errors.js";
import type { CacheScales } from "../export/byte-attention.js";

/** Other text may reach further than the samples did; what leaves the range is cut. */
const MARGIN = 1.1;
const HIGHEST = 127;
/** A channel that stays zero in every sample. */
const TINY = 1e-6;

/**
 * Finds the int8 cache's scales: runs token sequences through a model with a float32 cache and takes the largest
 * magnitude that each channel of the keys and values reached.
 *
 * @param samples sequences of token ids, each judged on its own
 * @returns one entry a layer
 */
export async function calibrate(
  modelDir: string,
  samples: readonly (readonly number[])[],
  onProgress?: (doneTokens: number, totalTokens: number) => void,
): Promise<CacheScales[]> {
  const longest = Math.max(...samples.map(({ length }) => length));
  const engine = await Engine.load(modelDir, { maxStreams: 1, maxTokens: longest });
  try {
    const { layers, kvHeads } = engine.manifest.config;
    const headDim = engine.manifest.cachedHeadSize;
    const highest = Array.from({ length: 2 * layers }, () => new Float32Array(kvHeads * headDim).fill(TINY));
    const total = samples.reduce((sum, { length }) => sum + length, 0);
    let done = 0;
    for (const ids of samples) {
      const sequence = engine.open();
      await sequence.feed(ids, () => {});
      engine.cached(sequence).forEach((values, block) => {
        raise(highest[block], values, ids.length, headDim);
      });
      sequence.close(new ClosedError("STREAM_CLOSED", "The sample is done."));
      done += ids.length;
      onProgress?.(done, total);
    }
    const scales = highest.map((channels) => channels.map((x) => (x * MARGIN) / HIGHEST));
    return Array.from({ length: layers }, (_, layer) => ({
      key: scales[2 * layer],
      value: scales[2 * layer + 1],
    }));
  } finally {
    await engine.close();
  }
}

/** @param values [kv_heads, capacity, head_dim], of which `length` positions are filled */
function raise(highest: Float32Array, values: Float32Array, length: number, headDim: number): void {
  const heads = highest.length / headDim;
  const capacity = values.length / highest.length;
  for (let head = 0; head < heads; head++) {
    for (let position = 0; position < length; position++) {
      const from = (head * capacity + position) * headDim;
      for (let i = 0; i < headDim; i++) {
        const channel = head * headDim + i;
        highest[channel] = Math.max(highest[channel], Math.abs(values[from + i]));
      }
    }
  }
}
