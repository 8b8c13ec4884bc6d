import { type ModelOutput, tailOf } from "../model/outputs.js";

/**
 * A step's results by the output's name, float32, rows of the output's width one after the other: a row for each token
 * (row r's tokens start at r · length), or for the last tokens of each row of the batch where the output has those alone.
 */
export type Logits = Readonly<Record<string, Float32Array>>;

/** Rows at "last" or "tail" are all of one number, so that a token has one place among them. */
export function tailOfAll(outputs: readonly ModelOutput[]): number {
  return Math.min(...outputs.map(tailOf));
}

/** The place among those rows of token `i` of the `count` that each row of the batch brings; -1 where it has none. */
export function tailPlace(i: number, count: number, row: number, tail: number): number {
  const kept = Math.min(count, tail);
  const place = i - (count - kept);
  return place < 0 ? -1 : row * kept + place;
}

/**
 * Whether all that a step gives for one token is finite. `index` counts tokens in the step, `place` those that have rows of
 * outputs of the last tokens alone; -1: it has none.
 */
export function areFinite(
  logits: Logits,
  outputs: readonly ModelOutput[],
  index: number,
  place: number,
): boolean {
  for (const { name, width, position } of outputs) {
    if (position !== "each" && place === -1) continue;
    const values = logits[name];
    const from = (position === "each" ? index : place) * width;
    for (let i = from; i < from + width; i++) if (!Number.isFinite(values[i])) return false;
  }
  return true;
}

/** A copy of what a step gives for one token, as a step of that token alone would give it. */
export function rowOf(logits: Logits, outputs: readonly ModelOutput[], index: number, place: number): Logits {
  return Object.fromEntries(
    outputs
      .filter(({ position }) => position === "each" || place !== -1)
      .map(({ name, width, position }) => {
        const from = (position === "each" ? index : place) * width;
        return [name, logits[name].slice(from, from + width)];
      }),
  );
}
