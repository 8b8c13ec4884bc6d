import { expect } from "vitest";
import type { Revision } from "../../src/tokenizer/incremental.js";

/** Holds what the revisions of an encoder amount to, and the encoder to its word. */
export class Reader {
  readonly ids: number[] = [];
  #stable = 0;

  take({ from, ids, provisional }: Revision): void {
    expect(from, "what stood is revised").toBeGreaterThanOrEqual(this.#stable);
    expect(from).toBeLessThanOrEqual(this.ids.length);
    if (ids.length > 0 && from < this.ids.length) expect(ids[0], "no change").not.toBe(this.ids[from]);
    this.ids.length = from;
    this.ids.push(...ids);
    expect(provisional).toBeGreaterThanOrEqual(0);
    const stable = this.ids.length - provisional;
    expect(stable, "what stood is provisional").toBeGreaterThanOrEqual(this.#stable);
    this.#stable = stable;
  }
}
