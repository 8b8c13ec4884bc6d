/**
 * Token ids as they stand, changed at the end only. Beside each id: where it ends in its piece, in bytes.
 * A fork shares its parent's ids until it pops them, and must be dropped when the parent changes.
 */
export class TokenStack {
  /** The shortest the stack has been since `takeLow`. */
  #low = 0;
  readonly #parent: TokenStack | null;
  #shared: number;
  readonly #ids: number[] = [];
  readonly #ends: number[] = [];

  constructor(parent: TokenStack | null = null) {
    this.#parent = parent;
    this.#shared = parent?.length ?? 0;
    this.#low = this.#shared;
  }

  get length(): number {
    return this.#shared + this.#ids.length;
  }

  /** How many ids, from the first, are the parent's. */
  get shared(): number {
    return this.#shared;
  }

  /** Where the last id ends in its piece, in bytes. */
  get topEnd(): number {
    return this.endAt(this.length - 1);
  }

  idAt(index: number): number {
    return index < this.#shared ? (this.#parent as TokenStack).idAt(index) : this.#ids[index - this.#shared];
  }

  endAt(index: number): number {
    return index < this.#shared
      ? (this.#parent as TokenStack).endAt(index)
      : this.#ends[index - this.#shared];
  }

  push(id: number, end: number): void {
    this.#ids.push(id);
    this.#ends.push(end);
  }

  pop(): void {
    if (this.#ids.length > 0) {
      this.#ids.pop();
      this.#ends.pop();
    } else {
      this.#shared--;
    }
    this.#low = Math.min(this.#low, this.length);
  }

  truncate(length: number): void {
    while (this.length > length) this.pop();
  }

  toArray(): number[] {
    return [...(this.#parent?.toArray().slice(0, this.#shared) ?? []), ...this.#ids];
  }

  /** The shortest the stack has been since the last call; what lies below has not changed. */
  takeLow(): number {
    const low = this.#low;
    this.#low = this.length;
    return low;
  }
}
