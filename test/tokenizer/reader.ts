import assert from "node:assert/strict";
import type { Revision } from "../../src/tokenizer/incremental.js";

/**
 * Holds what the revisions of an encoder amount to, and the encoder to its word. By Node's own assertions: vitest's would take
 * most of the time, of those who ask ten thousands of times.
 */
export class Reader {
  readonly ids: number[] = [];
  #stable = 0;

  take({ from, ids, provisional }: Revision): void {
    assert(from >= this.#stable, "what stood is revised");
    assert(from <= this.ids.length, `there is nothing before ${from}`);
    if (ids.length > 0 && from < this.ids.length) assert.notEqual(ids[0], this.ids[from], "no change");
    this.ids.length = from;
    this.ids.push(...ids);
    assert(provisional >= 0, `${provisional} are provisional`);
    const stable = this.ids.length - provisional;
    assert(stable >= this.#stable, "what stood is provisional");
    this.#stable = stable;
  }
}
