import type { ModelOutput } from "../model/outputs.js";
import type { Memory } from "../runtime/memory.js";
import type { Session } from "../runtime/session.js";
import type { Row } from "./batch.js";
import { Bindings } from "./bindings.js";
import type { KvCache } from "./cache.js";
import { areFinite, type Logits } from "./logits.js";
import { LogitsLayout } from "./logits-block.js";
import { StepInputs } from "./step-inputs.js";

/** Tokens that go on from what a row holds. */
export interface Branch {
  row: Pick<Row, "copyIds">;
  count: number;
}

/**
 * Runs branches: several ways in which what one row of the cache holds goes on, none of which sees another (tree attention).
 * All weights, and what the row holds, are read once for all of them.
 */
export class BranchRunner {
  readonly #session: Session;
  readonly #maxTokens: number;
  readonly #capacity: number;
  readonly #outputs: readonly ModelOutput[];
  readonly #inputs: StepInputs;
  readonly #logitsMemory: Memory;
  readonly #logits: Logits;
  readonly #bindings: Bindings;

  /**
   * @param session taken over: it is released with it, also where there is no memory for it
   * @param maxTokens the most that all branches of a run may have
   * @throws {DeviceError} OUT_OF_MEMORY
   */
  static over(
    session: Session,
    cache: KvCache,
    outputs: readonly ModelOutput[],
    maxTokens: number,
  ): BranchRunner {
    try {
      return new BranchRunner(session, cache, outputs, maxTokens);
    } catch (error) {
      session.release();
      throw error;
    }
  }

  private constructor(session: Session, cache: KvCache, outputs: readonly ModelOutput[], maxTokens: number) {
    const { device } = session;
    this.#session = session;
    this.#maxTokens = maxTokens;
    this.#capacity = cache.shape.capacity;
    this.#outputs = outputs;
    this.#inputs = new StepInputs(device, outputs, 1, maxTokens, true);
    const layout = new LogitsLayout(outputs, maxTokens, 1);
    this.#logitsMemory = device.shared(layout.bytes);
    this.#logits = layout.views(this.#logitsMemory);
    this.#bindings = new Bindings(session, cache, this.#inputs, { layout, memory: this.#logitsMemory });
  }

  /** How many tokens a run may bring behind what a row holds. */
  room(held: number): number {
    return Math.min(this.#maxTokens, this.#capacity - held);
  }

  /**
   * Runs branches behind the `held` tokens of a row, one after the other, and leaves what the first one brought in the cache where
   * the row goes on.
   *
   * @returns the logits of all tokens, valid until the next run; null where one of the numbers is none: it may come of another
   *   branch's
   * @throws {DeviceError} ORT_ERROR
   */
  async run(row: number, held: number, branches: readonly Branch[]): Promise<Logits | null> {
    const { ids, lengths } = this.#inputs;
    const positions = this.#inputs.positions as BigInt64Array;
    let tokens = 0;
    for (const { row, count } of branches) {
      row.copyIds(count, ids, tokens);
      for (let i = 0; i < count; i++) positions[tokens + i] = BigInt(held + i);
      tokens += count;
    }
    lengths[0] = held + tokens - 1;
    this.#inputs.total = held + tokens;
    this.#inputs.publish(tokens);
    await this.#bindings.get(row, 1, tokens, tokens).run();
    return areFinite(this.#logits, this.#outputs, tokens) ? this.#logits : null;
  }

  release(): void {
    this.#bindings.release();
    this.#inputs.release();
    this.#logitsMemory.free();
    this.#session.release();
  }
}
