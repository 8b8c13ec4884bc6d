import { LRUCache } from "lru-cache";

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
  /** By tenant and text. */
  readonly #ids: LRUCache<string, readonly number[]>;

  constructor(most = MOST) {
    this.#ids = new LRUCache({ maxSize: most, sizeCalculation: (_, key) => key.length });
  }

  /** Characters of what is kept. */
  get characters(): number {
    return this.#ids.calculatedSize;
  }

  /** The texts of one tenant. */
  of(tenant: string): KnownTexts {
    const key = (text: string) => `${tenant.length} ${tenant}${text}`;
    return {
      get: (text) => (text.length < SHORTEST ? undefined : this.#ids.get(key(text))),
      put: (text, ids) => {
        if (text.length >= SHORTEST) this.#ids.set(key(text), ids);
      },
    };
  }
}
