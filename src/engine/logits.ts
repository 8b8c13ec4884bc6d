import { NumericError } from "../errors.js";
import { type ModelOutput, tailOf } from "../model/outputs.js";

/**
 * A step's results by the output's name, float32, rows of the output's width one after the other: a row for each token
 * (row r's tokens start at r · length), or for the last tokens of each row of the batch where the output has those alone.
 */
export type Logits = Readonly<Record<string, Float32Array>>;

/**
 * Called once for each token, in order, with the logits of the step that held it. `index` is the token's place in
 * the step's logits, `position` its place in the sequence, `place` where what is given for a run's last tokens alone lies,
 * or -1 where it is none of them. The arrays are reused: read them before returning.
 */
export type LogitsReader = (logits: Logits, index: number, position: number, place: number) => void;

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
 * `index` counts tokens in the step, `place` those that have rows of outputs of the last tokens alone; -1: it has none.
 *
 * @throws {NumericError} LOGITS_NOT_FINITE unless all that a step gives for one token is finite
 */
export function requireFinite(
  logits: Logits,
  outputs: readonly ModelOutput[],
  index: number,
  position: number,
  place: number,
): void {
  for (const output of outputs) {
    if (output.position !== "each" && place === -1) continue;
    const values = logits[output.name];
    const from = (output.position === "each" ? index : place) * output.width;
    for (let i = from; i < from + output.width; i++)
      if (!Number.isFinite(values[i])) throw notFinite(position);
  }
}

/** Whether all that a step gives for its first tokens is finite, of a model that gives each of its outputs for each of them. */
export function areFinite(logits: Logits, outputs: readonly ModelOutput[], tokens: number): boolean {
  return outputs.every(({ name, width }) => logits[name].subarray(0, tokens * width).every(Number.isFinite));
}

function notFinite(position: number): NumericError {
  return new NumericError(
    "LOGITS_NOT_FINITE",
    `The model gave NaN or infinite logits at position ${position}, so there is no verdict. ` +
      "Check the checkpoint, or export it with --dtype fp32.",
  );
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
