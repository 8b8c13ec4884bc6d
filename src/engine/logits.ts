import type { ModelOutput } from "../model/outputs.js";

/**
 * A step's results by the output's name, float32, rows of the output's width one after the other: a row for each token
 * (row r's tokens start at r · length), or for each row of the batch where the output has the last position alone.
 */
export type Logits = Readonly<Record<string, Float32Array>>;

/**
 * Whether all that a step gives for one token is finite. `index` counts tokens in the step, `row` rows of the batch;
 * `last`: it is the last one of its row.
 */
export function areFinite(
  logits: Logits,
  outputs: readonly ModelOutput[],
  index: number,
  row: number,
  last: boolean,
): boolean {
  for (const { name, width, position } of outputs) {
    if (position === "last" && !last) continue;
    const values = logits[name];
    const from = (position === "last" ? row : index) * width;
    for (let i = from; i < from + width; i++) if (!Number.isFinite(values[i])) return false;
  }
  return true;
}

/** A copy of what a step gives for one token, as a step of that token alone would give it. */
export function rowOf(logits: Logits, outputs: readonly ModelOutput[], index: number, row: number): Logits {
  return Object.fromEntries(
    outputs.map(({ name, width, position }) => {
      const from = (position === "last" ? row : index) * width;
      return [name, logits[name].slice(from, from + width)];
    }),
  );
}
