import type { Sequence } from "../../engine/sequence.js";
import { NEXT_TOKEN } from "../../export/lm-head.js";

/**
 * A Gen guard's answer to one prompt, as far as it is written in the cache. Any beginning of an answer can be asked what
 * the model would go on with: what it has in common with the last one stays, the rest is rolled back.
 */
export class AnswerReader {
  readonly #sequence: Sequence;
  readonly #prompt: readonly number[];
  /** The answer's ids in the cache; null before the prompt is. */
  #written: readonly number[] | null = null;

  constructor(sequence: Sequence, prompt: readonly number[]) {
    this.#sequence = sequence;
    this.#prompt = prompt;
  }

  /**
   * Hands over the logits of what comes after an answer's beginning, one for each token of the vocabulary.
   *
   * @param answer its ids; empty at the most once, before anything is written
   * @param take gets the engine's own memory: it must copy what it keeps
   */
  async after<T>(answer: readonly number[], take: (logits: Float32Array) => T): Promise<T> {
    const written = this.#written;
    const last = this.#prompt.length + answer.length - 1;
    let taken: { value: T } | undefined;
    const read: Parameters<Sequence["feed"]>[1] = (logits, _index, position, row) => {
      if (position !== last) return;
      const width = this.#sequence.limits.vocabSize;
      taken = { value: take(logits[NEXT_TOKEN].subarray(row * width, (row + 1) * width)) };
    };
    // Until it is fed nobody knows what is written.
    this.#written = null;
    if (written === null) await this.#sequence.feed([...this.#prompt, ...answer], read, 0, [last]);
    else {
      // The last token is read anew at any rate: its logits are gone.
      const kept = Math.min(shared(written, answer), answer.length - 1);
      await this.#sequence.feed(answer.slice(kept), read, this.#prompt.length + kept);
    }
    this.#written = answer;
    return (taken as { value: T }).value;
  }
}

function shared(a: readonly number[], b: readonly number[]): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}

/** Natural logarithms of the probabilities of some tokens, among all of the vocabulary. */
export function logProbabilities(logits: Float32Array, ids: readonly number[]): number[] {
  let highest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) if (logits[i] > highest) highest = logits[i];
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - highest);
  const total = highest + Math.log(sum);
  return ids.map((id) => logits[id] - total);
}

/** The ids with the highest logits, the highest first; of equals the lower id. */
export function likeliest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    if (best.length === count && !(logits[id] > logits[best[count - 1]])) continue;
    let at = best.length;
    while (at > 0 && logits[id] > logits[best[at - 1]]) at--;
    best.splice(at, 0, id);
    best.length = Math.min(best.length, count);
  }
  return best;
}
