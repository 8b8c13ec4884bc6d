/**
 * A map from two non-negative integers to a third. Open addressing over flat arrays: a lookup allocates nothing,
 * and hundreds of thousands of entries take a few megabytes.
 */
export class PairTable {
  #first: Int32Array;
  #second: Int32Array;
  #value: Int32Array;
  #size = 0;

  /** `expected`: about how many pairs there will be. */
  constructor(expected: number) {
    let capacity = 16;
    while (capacity < expected * 1.5) capacity *= 2;
    this.#first = new Int32Array(capacity).fill(-1);
    this.#second = new Int32Array(capacity);
    this.#value = new Int32Array(capacity);
  }

  /** Adds a pair that is not in the table yet. */
  add(first: number, second: number, value: number): void {
    this.obtain(first, second, value);
  }

  /** The value of the pair; of one that is not in the table yet it is this one from now on. */
  obtain(first: number, second: number, value: number): number {
    if ((this.#size + 1) * 1.5 > this.#first.length) this.#grow();
    const slot = this.#slot(first, second);
    if (this.#first[slot] !== -1) return this.#value[slot];
    this.#size++;
    this.#first[slot] = first;
    this.#second[slot] = second;
    this.#value[slot] = value;
    return value;
  }

  /** The value of the pair, -1 when it was never added. */
  get(first: number, second: number): number {
    const slot = this.#slot(first, second);
    return this.#first[slot] === -1 ? -1 : this.#value[slot];
  }

  #slot(first: number, second: number): number {
    const firsts = this.#first;
    const seconds = this.#second;
    const mask = firsts.length - 1;
    let hash = Math.imul(first, 0x9e3779b1) ^ Math.imul(second + 1, 0x85ebca6b);
    hash ^= hash >>> 15;
    let slot = hash & mask;
    while (firsts[slot] !== -1 && (firsts[slot] !== first || seconds[slot] !== second)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #grow(): void {
    const [first, second, value] = [this.#first, this.#second, this.#value];
    this.#size = 0;
    this.#first = new Int32Array(first.length * 2).fill(-1);
    this.#second = new Int32Array(first.length * 2);
    this.#value = new Int32Array(first.length * 2);
    for (let slot = 0; slot < first.length; slot++) {
      if (first[slot] !== -1) this.add(first[slot], second[slot], value[slot]);
    }
  }
}
