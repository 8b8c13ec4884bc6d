import type { LogitsReader } from "../../engine/logits.js";
import { tailOfAll } from "../../engine/logits.js";
import type { Sequence } from "../../engine/sequence.js";
import { NEXT_TOKEN } from "../../model/guard-outputs.js";

/** Logits of the whole vocabulary: the engine's own memory, of which must be copied what is to be kept. */
type TakeLogits = (logits: Float32Array, read: number) => void;

/**
 * A Gen guard's answer to one prompt, as far as it is written in the cache. Any beginning of an answer can be asked what
 * the model would go on with: what it has in common with the last one stays, the rest is rolled back.
 */
export class AnswerReader {
  readonly #sequence: Sequence;
  readonly #prompt: readonly number[];
  /** Tokens of a run that have logits, if they are its last. */
  readonly #tail: number;
  /** The answer's ids in the cache; null before the prompt is. */
  #written: readonly number[] | null = null;
  /** An answer that was read before it was asked for, with logits by how much of it they come after. */
  #expected: { answer: readonly number[]; logits: Map<number, Float32Array> } | null = null;

  constructor(sequence: Sequence, prompt: readonly number[]) {
    this.#sequence = sequence;
    this.#prompt = prompt;
    this.#tail = tailOfAll(sequence.limits.outputs);
  }

  get promptTokens(): number {
    return this.#prompt.length;
  }

  /** Of the prompt's tokens, those that the cache held already. What it held of the answer is none of them. */
  get reusedTokens(): number {
    return Math.min(this.#sequence.reused, this.#prompt.length);
  }

  /** What the model makes of what comes after an answer's beginning. It may be empty at the most once, as the first. */
  async after<T>(answer: readonly number[], take: (logits: Float32Array) => T): Promise<T> {
    let taken: { value: T } | undefined;
    await this.along(answer, [answer.length], (logits) => {
      taken = { value: take(logits) };
    });
    return (taken as { value: T }).value;
  }

  /**
   * Hands over the logits of what comes after some beginnings of an answer: in one run, unless they are far apart.
   *
   * @param answer its ids
   * @param reads the beginnings' lengths, ascending
   */
  async along(answer: readonly number[], reads: readonly number[], take: TakeLogits): Promise<void> {
    for (let next = 0; next < reads.length; ) {
      const first = reads[next];
      const known = this.#known(answer.slice(0, first));
      if (known) {
        take(known, first);
        next++;
        continue;
      }
      const together = reads.slice(next).filter((read) => read - first < this.#tail);
      next += together.length;
      await this.#feed(answer.slice(0, together.at(-1)), together, take);
    }
  }

  /** Reads an answer that is likely, as `along`: what is asked about it afterwards costs nothing. */
  async expect(answer: readonly number[], reads: readonly number[]): Promise<void> {
    const logits = new Map<number, Float32Array>();
    await this.along(answer, reads, (found, read) => logits.set(read, found.slice()));
    this.#expected = { answer, logits };
  }

  #known(answer: readonly number[]): Float32Array | undefined {
    const expected = this.#expected;
    if (!expected || shared(expected.answer, answer) < answer.length) return undefined;
    return expected.logits.get(answer.length);
  }

  async #feed(answer: readonly number[], reads: readonly number[], take: TakeLogits): Promise<void> {
    const before = this.#prompt.length - 1;
    const width = this.#sequence.limits.vocabSize;
    const read: LogitsReader = (logits, _index, position, place) => {
      const length = position - before;
      if (reads.includes(length))
        take(logits[NEXT_TOKEN].subarray(place * width, (place + 1) * width), length);
    };
    const written = this.#written;
    // Until it is fed nobody knows what is written.
    this.#written = null;
    if (written === null) {
      const positions = reads.map((length) => before + length);
      await this.#sequence.feed([...this.#prompt, ...answer], read, 0, positions);
    } else {
      // The first that is read is run anew at any rate: its logits are gone.
      const kept = Math.min(shared(written, answer), reads[0] - 1);
      await this.#sequence.feed(answer.slice(kept), read, this.#prompt.length + kept);
    }
    this.#written = answer;
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
