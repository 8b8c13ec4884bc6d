import { type ModelOutput, rowsOf } from "../model/outputs.js";
import type { Memory } from "../runtime/memory.js";
import { ELEMENT, Tensor } from "../runtime/tensor.js";
import type { Logits } from "./logits.js";

/** Where each tensor's part of a block may begin: no kernel wants more. */
const ALIGNMENT = 256;

export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Where a step's outputs lie in one block of memory, one after the other, each with room for the largest step. */
export class LogitsLayout {
  readonly bytes: number;
  readonly #outputs: readonly ModelOutput[];
  readonly #counts: number[];
  readonly #at: number[] = [];

  /** @param tokens the most that a step holds. @param rows the most that it has; where it is one alone, it may bring all */
  constructor(outputs: readonly ModelOutput[], tokens: number, rows: number) {
    this.#outputs = outputs;
    this.#counts = outputs.map(
      (output) =>
        output.width * (output.position === "each" ? tokens : Math.max(rows, rowsOf(output, tokens))),
    );
    let end = 0;
    for (const count of this.#counts) {
      this.#at.push(end);
      end = aligned(end + count * ELEMENT.float32.bytes);
    }
    this.bytes = end;
  }

  /** Views of host memory, by the output's name. */
  views(memory: Memory): Logits {
    const buffer = memory.view();
    const views = this.#outputs.map(({ name }, i) => [
      name,
      new Float32Array(buffer, this.#at[i], this.#counts[i]),
    ]);
    return Object.fromEntries(views);
  }

  /** To be bound as the outputs of a step of `length` tokens a row, of which it asks for the last `asked`. */
  tensors(memory: Memory, rows: number, length: number, asked?: number): [string, Tensor][] {
    return this.#outputs.map((output, i) => {
      const dims = [rows, rowsOf(output, length, asked), output.width];
      if (rows * dims[1] * output.width > this.#counts[i])
        throw new RangeError(`no room for ${rows} × ${length}`);
      return [output.name, Tensor.view(memory, this.#at[i], "float32", dims)];
    });
  }
}
