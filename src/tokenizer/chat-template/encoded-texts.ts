/** Ids of texts that were encoded before, for one whose own they are. */
export interface KnownTexts {
  get(text: string): readonly number[] | undefined;
  put(text: string, ids: readonly number[]): void;
}

/** Characters of a text that is worth being remembered: encoding fewer takes some 20 µs. */
const SHORTEST = 256;
/** Characters of all that are kept: with their ids a few MB. */
const MOST = 1 << 20;

/**
 * What conversations begin with comes again and again: a system prompt with each of its users, earlier turns with each
 * new one. Each such text is encoded once, for each tenant: how long encoding takes must not tell one what another has said.
 */
export class EncodedTexts {
  readonly #most: number;
  /** By tenant and text, what was not used for longest first. */
  readonly #ids = new Map<string, readonly number[]>();
  #characters = 0;

  constructor(most = MOST) {
    this.#most = most;
  }

  /** Characters of what is kept. */
  get characters(): number {
    return this.#characters;
  }

  /** The texts of one tenant. */
  of(tenant: string): KnownTexts {
    const key = (text: string) => `${tenant.length} ${tenant}${text}`;
    return {
      get: (text) => (text.length < SHORTEST ? undefined : this.#get(key(text))),
      put: (text, ids) => {
        if (text.length >= SHORTEST) this.#put(key(text), ids);
      },
    };
  }

  #get(key: string): readonly number[] | undefined {
    const ids = this.#ids.get(key);
    if (ids === undefined) return undefined;
    this.#ids.delete(key);
    this.#ids.set(key, ids);
    return ids;
  }

  #put(key: string, ids: readonly number[]): void {
    if (key.length > this.#most || this.#ids.has(key)) return;
    this.#ids.set(key, ids);
    this.#characters += key.length;
    for (const [oldest] of this.#ids) {
      if (this.#characters <= this.#most) return;
      this.#ids.delete(oldest);
      this.#characters -= oldest.length;
    }
  }
}
