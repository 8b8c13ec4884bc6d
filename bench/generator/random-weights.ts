import type { WeightSource } from "../../src/export/weights.js";
import { expectedTensors } from "../../src/model/architecture.js";
import type { GuardConfig } from "../../src/model/config.js";

/** A prime, so that rows of any usual width are not cut from the same places again. */
const POOL_VALUES = 4_194_301;

/**
 * Weights cut out of a pool of random numbers: no checkpoint of many gigabytes need exist. Scaled so that activations
 * stay of order 1.
 */
export class RandomWeights implements WeightSource {
  readonly config: GuardConfig;
  readonly #shapes: Map<string, number[]>;
  readonly #numbers = new Float32Array(POOL_VALUES);
  readonly #pools = new Map<number, Float32Array>();

  constructor(config: GuardConfig) {
    this.config = config;
    this.#shapes = expectedTensors(config);
    this.#shapes.set("lm_head.weight", [config.vocabSize, config.hiddenSize]);
    let state = 1;
    for (let i = 0; i < POOL_VALUES; i++) {
      // Marsaglia's xorshift32.
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#numbers[i] = (state / 2 ** 31) * Math.sqrt(3);
    }
  }

  async *rows(name: string, rowsPerBlock = 1024): AsyncGenerator<{ row: number; data: Float32Array }> {
    const [rows, columns] = this.#shape(name);
    const pool = this.#pool(name === "model.embed_tokens.weight" ? 1 : columns);
    const perBlock = Math.min(rowsPerBlock, Math.floor(POOL_VALUES / columns));
    let at = placeOf(name);
    for (let row = 0; row < rows; row += perBlock) {
      const count = Math.min(perBlock, rows - row) * columns;
      // Begins again, at a place that differs from round to round.
      if (at + count > POOL_VALUES) at = (POOL_VALUES - at) % Math.max(1, POOL_VALUES - count);
      yield { row, data: pool.subarray(at, at + count) };
      at += count;
    }
  }

  /** A norm's weight. */
  async read(name: string): Promise<Float32Array> {
    return new Float32Array(this.#shape(name)[0]).fill(1);
  }

  /** The numbers for a matrix that sums over so many inputs. */
  #pool(inputs: number): Float32Array {
    let pool = this.#pools.get(inputs);
    if (!pool) {
      pool = this.#numbers.map((value) => value / Math.sqrt(inputs));
      this.#pools.set(inputs, pool);
    }
    return pool;
  }

  #shape(name: string): number[] {
    const shape = this.#shapes.get(name);
    if (!shape) throw new Error(`no tensor ${name}`);
    return shape;
  }
}

/** FNV-1a. */
function placeOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % POOL_VALUES;
}
