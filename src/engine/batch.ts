import type { ModelOutput } from "../model/outputs.js";
import type { RecordingMode } from "../runtime/devices/device.js";
import type { Memory } from "../runtime/memory.js";
import type { Session } from "../runtime/session.js";
import { Bindings } from "./bindings.js";
import type { KvCache } from "./cache.js";
import { type Logits, tailOfAll } from "./logits.js";
import { LogitsLayout } from "./logits-block.js";
import { RecordedSteps, type StepRange } from "./recorded-steps.js";
import type { Sequence } from "./sequence.js";
import { StepInputs } from "./step-inputs.js";

/** Consecutive cache rows that take one step together, `length` tokens each. Rows without a sequence to run are padded. */
export interface Batch {
  firstRow: number;
  /** The sequence that owns each row, or null where none does. */
  rows: (Row | null)[];
  /** Positions of each idle row that hold something of use. Default: as many as its sequence has. */
  held?: readonly number[];
  /** Which of them bring tokens. */
  active: boolean[];
  length: number;
  /** Of how many of each row's last tokens logits are wanted, where the model gives the last ones' alone. Default: of all. */
  asked?: number;
}

/** Of a sequence what a run needs: the tokens in the cache, and a way to get at the next ones. */
export type Row = Pick<Sequence, "length" | "copyIds">;

export interface RunOptions {
  /** Leaves recordings alone. */
  eager?: boolean;
  /** `interrupt` makes it fail, as far as it has come. */
  background?: boolean;
}

/**
 * Runs batches: a step writes a few integers, runs, and leaves the logits in place. On a GPU, steps of one token a row can be
 * recorded.
 */
export class BatchRunner {
  readonly #session: Session;
  readonly #cache: KvCache;
  readonly #outputs: readonly ModelOutput[];
  /** The most tokens a step may hold. */
  readonly maxTokens: number;
  readonly #inputs: StepInputs;
  readonly #logitsMemory: Memory;
  readonly #logits: Logits;
  readonly #bindings: Bindings;
  readonly #recorded: RecordedSteps;
  readonly #tail: number;
  readonly #paddedLengths: readonly number[];

  /** @param maxBatchTokens the most tokens a step may hold, padding included */
  constructor(session: Session, cache: KvCache, outputs: readonly ModelOutput[], maxBatchTokens: number) {
    const { device } = session;
    const { slots } = cache.shape;
    this.#session = session;
    this.#cache = cache;
    this.#outputs = outputs;
    this.maxTokens = maxBatchTokens;
    this.#inputs = new StepInputs(device, outputs, slots, maxBatchTokens);
    const layout = new LogitsLayout(outputs, maxBatchTokens, slots);
    this.#logitsMemory = device.shared(layout.bytes);
    this.#logits = layout.views(this.#logitsMemory);
    this.#bindings = new Bindings(session, cache, this.#inputs, { layout, memory: this.#logitsMemory });
    this.#recorded = new RecordedSteps(device, outputs, slots, this.#inputs, this.#bindings, this.#logits);
    this.#tail = tailOfAll(outputs);
    this.#paddedLengths = (this.padsChunks && device.defaults.paddedLengths) || [];
  }

  /** Whether chunks may be padded: an output of the last positions would be one of the padding. */
  get padsChunks(): boolean {
    return this.#outputs.every(({ position }) => position === "each");
  }

  /** Whether a run says of how many tokens it wants logits. */
  get asks(): boolean {
    return this.#inputs.asks;
  }

  /** Runs zeros on the first `rows`, `length` on each, so that the next run of that shape is not the first. Before the first sequence. */
  async warmUp(rows: number, length: number): Promise<void> {
    this.#inputs.total = length;
    this.#inputs.fill(length);
    await this.#run(0, rows, length);
  }

  /**
   * Records the steps of these ranges of rows, of one token a row where they do not say; `run` takes recorded steps where there are. For
   * devices that record, before the first sequence.
   *
   * @param enough asked after each range: the remaining ones stay without a recording
   * @throws {DeviceError}
   */
  async record(ranges: readonly StepRange[], mode: RecordingMode, enough = () => false): Promise<void> {
    // Kernels stop at each row's own length, so the longest there can be does for all.
    this.#inputs.total = this.#cache.shape.capacity;
    await this.#recorded.record(ranges, mode, enough);
  }

  /** Gives the recordings up. */
  forget(): void {
    this.#recorded.forget();
  }

  /** The logits of the batch, valid until the next run. @throws {DeviceError} */
  async run(batch: Batch, { eager = false, background = false }: RunOptions = {}): Promise<Logits> {
    const { firstRow, rows, asked } = batch;
    const length = this.#paddedLength(batch);
    this.#inputs.total = this.#write(batch, length);
    const recorded = eager ? undefined : this.#recorded.find(firstRow, rows.length, length);
    if (!recorded) return this.#run(firstRow, rows.length, length, asked, background);
    await recorded.recording.run();
    return recorded.logits;
  }

  async #run(first: number, rows: number, length: number, asked = length, background = false) {
    const wanted = this.asks ? Math.min(asked, length, this.#tail) : length;
    this.#inputs.asked = wanted;
    this.#inputs.publish(rows * length);
    await this.#bindings.get(first, rows, length, wanted).run(background);
    return this.#logits;
  }

  /** Writes a batch's ids and lengths, each row padded to `length` tokens. @returns how many the longest row has afterwards */
  #write({ rows, held, active, length: count }: Batch, length: number): number {
    const { ids, lengths } = this.#inputs;
    let longest = 0;
    for (let row = 0; row < rows.length; row++) {
      const sequence = rows[row];
      const runs = sequence !== null && active[row];
      if (runs) sequence.copyIds(count, ids, row * length);
      ids.fill(0n, row * length + (runs ? count : 0), (row + 1) * length);
      // A row that only pads writes behind what it holds, where whatever comes next is written.
      const after = (runs ? sequence.length : (held?.[row] ?? sequence?.length ?? 0)) + length;
      lengths[row] = after - 1;
      longest = Math.max(longest, after);
    }
    return longest;
  }

  /**
   * What a sequence's own chunk runs as. Nothing attends to what stands behind it, and what the padding leaves in the cache lies
   * behind what the sequence holds, where whatever comes next is written.
   */
  #paddedLength({ rows, length }: Batch): number {
    if (rows.length > 1 || length === 1) return length;
    // The last position is for rows that idle; the rotation has no angles behind it.
    const room = this.#cache.shape.capacity - 1 - (rows[0]?.length ?? 0);
    const padded = this.#paddedLengths.find((each) => each >= length) ?? length;
    return padded <= Math.min(this.maxTokens, room) ? padded : length;
  }

  /** Stops a run in the background. What it has written of the cache means nothing. */
  interrupt(): void {
    this.#session.stop();
  }

  /** Number of recorded steps. */
  get recorded(): number {
    return this.#recorded.count;
  }

  release(): void {
    this.forget();
    this.#bindings.release();
    this.#inputs.release();
    this.#logitsMemory.free();
  }
}
