import type { ModelOutput } from "../model/outputs.js";
import type { Device, Recorder, Recording, RecordingMode } from "../runtime/devices/device.js";
import type { Memory } from "../runtime/memory.js";
import {
  type Bindings,
  type BoundRows,
  bindShape,
  type Results,
  releaseRows,
  releaseShape,
  type StepShape,
} from "./bindings.js";
import type { Logits } from "./logits.js";
import { LogitsLayout } from "./logits-block.js";
import type { RowRange } from "./rows.js";
import type { StepInputs } from "./step-inputs.js";

/** Tokens that a recorded step has at most. */
export const LONGEST_STEP = 8;

/** Runs of a shape before it is recorded; as many as ONNX Runtime takes before recordings of its own. */
const WARM_UPS = 2;

/** Rows whose step is recorded, and the tokens that each brings. Default 1. */
export interface StepRange extends RowRange {
  length?: number;
}

/** A step that one call starts, and what it was recorded with. */
interface RecordedStep {
  recording: Recording;
  logits: Logits;
  bound: BoundRows;
  shape: StepShape;
}

/** Where steps leave their results, if the kernels do not write them to host memory themselves. */
interface ResultCopy extends Results {
  host: Memory;
  logits: Logits;
}

/**
 * Steps that were recorded on a GPU: each is one call, which copies the integers, runs all kernels, and has the last of them
 * write the logits to host memory.
 */
export class RecordedSteps {
  readonly #device: Device;
  readonly #outputs: readonly ModelOutput[];
  readonly #slots: number;
  readonly #inputs: StepInputs;
  readonly #bindings: Bindings;
  readonly #logits: Logits;
  /** By first row, number of rows and tokens of each. */
  readonly #steps = new Map<string, RecordedStep>();
  #copy: ResultCopy | null = null;

  /** @param logits what steps leave, where the kernels write to host memory themselves */
  constructor(
    device: Device,
    outputs: readonly ModelOutput[],
    slots: number,
    inputs: StepInputs,
    bindings: Bindings,
    logits: Logits,
  ) {
    this.#device = device;
    this.#outputs = outputs;
    this.#slots = slots;
    this.#inputs = inputs;
    this.#bindings = bindings;
    this.#logits = logits;
  }

  get count(): number {
    return this.#steps.size;
  }

  find(
    firstRow: number,
    rows: number,
    length: number,
  ): Pick<RecordedStep, "recording" | "logits"> | undefined {
    return this.#steps.size === 0 ? undefined : this.#steps.get(key(firstRow, rows, length));
  }

  /**
   * Records the steps of these ranges of rows.
   *
   * @param enough asked after each range: the remaining ones stay without a recording
   * @throws {DeviceError}
   */
  async record(ranges: readonly StepRange[], mode: RecordingMode, enough: () => boolean): Promise<void> {
    const recorder = this.#device.recorder!;
    if (mode.copiesResults) this.#copy = this.#makeCopy();
    let warm = 0;
    for (const { first, count, length = 1 } of ranges) {
      const bound = this.#bindings.rows(first, count);
      const shape = this.#bindings.shape(count, length, length, this.#copy ?? undefined);
      const tokens = count * length;
      const binding = bindShape(bound, shape);
      this.#inputs.fill(length);
      this.#inputs.publish(tokens);
      try {
        // What a size's first runs do, such as loading kernels or allocating, a recording may not do.
        for (let run = 0; run < WARM_UPS && tokens !== warm; run++) await binding.run();
        warm = tokens;
        const recording = await recorder.record(async () => {
          this.#inputs.publish(tokens);
          await binding.enqueue();
          this.#download(recorder);
        }, mode);
        const logits = this.#copy?.logits ?? this.#logits;
        this.#steps.set(key(first, count, length), { recording, logits, bound, shape });
      } catch (error) {
        releaseRows(bound);
        releaseShape(shape);
        throw error;
      }
      if (enough()) break;
      await new Promise(setImmediate);
    }
  }

  /** Gives them up. */
  forget(): void {
    for (const { recording, bound, shape } of this.#steps.values()) {
      recording.release();
      releaseRows(bound);
      releaseShape(shape);
    }
    this.#steps.clear();
    this.#copy?.memory.free();
    this.#copy?.host.free();
    this.#copy = null;
  }

  #download(recorder: Recorder): void {
    if (this.#copy) recorder.download(this.#copy.host, this.#copy.memory, this.#copy.layout.bytes);
  }

  #makeCopy(): ResultCopy {
    const layout = new LogitsLayout(this.#outputs, Math.max(this.#slots, LONGEST_STEP), this.#slots);
    const host = this.#device.shared(layout.bytes);
    return { layout, host, memory: this.#device.allocate(layout.bytes), logits: layout.views(host) };
  }
}

function key(first: number, count: number, length: number): string {
  return `${first}+${count}x${length}`;
}
