import type { ModelOutput } from "../model/outputs.js";
import { Binding } from "../runtime/binding.js";
import { cpu } from "../runtime/devices/cpu.js";
import type { Recorder, Recording, RecordingMode } from "../runtime/devices/device.js";
import { InputBuffer } from "../runtime/input-buffer.js";
import type { Memory } from "../runtime/memory.js";
import type { Session } from "../runtime/session.js";
import { ELEMENT, Tensor } from "../runtime/tensor.js";
import { type BoundRows, bindShape, releaseBound, releaseShape, type StepShape } from "./bound-rows.js";
import type { KvCache } from "./cache.js";
import { type Logits, tailOfAll } from "./logits.js";
import { aligned, LogitsLayout } from "./logits-block.js";
import { recent } from "./recent.js";
import type { RowRange } from "./rows.js";
import type { Sequence } from "./sequence.js";

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

/** Bindings are cheap to make (a fraction of a millisecond) but not free to keep: two OrtValues a layer each. */
const MAX_BINDINGS = 64;
const MAX_SHAPES = 256;

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

/** Where recorded steps leave their results, if the kernels do not write them to host memory themselves. */
interface ResultCopy {
  device: Memory;
  host: Memory;
  layout: LogitsLayout;
  logits: Logits;
}

/**
 * Runs batches. Bindings and tensors are made once for each group of rows and each shape and kept; a step writes a few
 * integers, runs, and leaves the logits in place. On a GPU, steps of one token a row can be recorded: then a step is
 * one call, which copies the integers, runs all kernels, and has the last of them write the logits to host memory.
 */
export class BatchRunner {
  readonly #session: Session;
  readonly #cache: KvCache;
  readonly #outputs: readonly ModelOutput[];
  /** The most tokens a step may hold. */
  readonly maxTokens: number;
  readonly #inbox: InputBuffer;
  readonly #lengths: Int32Array;
  readonly #ids: BigInt64Array;
  readonly #idsAt: number;
  readonly #totalMemory: Memory;
  readonly #total: Int32Array;
  readonly #totalTensor: Tensor;
  /** How many tokens' logits a run asks for, of a model that is asked. */
  readonly #asked: BigInt64Array | null = null;
  readonly #askedMemory: Memory | null = null;
  readonly #askedTensor: Tensor | null = null;
  readonly #tail: number;
  readonly #layout: LogitsLayout;
  readonly #logitsMemory: Memory;
  readonly #logits: Logits;
  readonly #bound = new Map<string, BoundRows>();
  readonly #shapes = new Map<string, StepShape>();
  /** By first row, number of rows and tokens of each. */
  readonly #recorded = new Map<string, RecordedStep>();
  #resultCopy: ResultCopy | null = null;
  readonly #paddedLengths: readonly number[];

  /** @param maxBatchTokens the most tokens a step may hold, padding included */
  constructor(session: Session, cache: KvCache, outputs: readonly ModelOutput[], maxBatchTokens: number) {
    this.#session = session;
    this.#cache = cache;
    this.#outputs = outputs;
    this.maxTokens = maxBatchTokens;
    this.#idsAt = aligned(cache.shape.slots * ELEMENT.int32.bytes);
    this.#inbox = new InputBuffer(this.#idsAt + maxBatchTokens * ELEMENT.int64.bytes, session.device);
    this.#lengths = new Int32Array(this.#inbox.view(), 0, cache.shape.slots);
    this.#ids = new BigInt64Array(this.#inbox.view(), this.#idsAt, maxBatchTokens);
    // The kernels' own launch depends on it, so it is read on the host even where they run on a GPU.
    this.#totalMemory = cpu.allocate(ELEMENT.int32.bytes);
    this.#total = new Int32Array(this.#totalMemory.view());
    this.#totalTensor = Tensor.view(this.#totalMemory, 0, "int32", []);
    this.#tail = tailOfAll(outputs);
    if (outputs.some(({ asked }) => asked)) {
      this.#askedMemory = cpu.allocate(ELEMENT.int64.bytes);
      this.#asked = new BigInt64Array(this.#askedMemory.view());
      this.#askedTensor = Tensor.view(this.#askedMemory, 0, "int64", [1]);
    }
    this.#layout = new LogitsLayout(outputs, maxBatchTokens, cache.shape.slots);
    this.#logitsMemory = session.device.shared(this.#layout.bytes);
    this.#logits = this.#layout.views(this.#logitsMemory);
    this.#paddedLengths = (this.padsChunks && session.device.defaults.paddedLengths) || [];
  }

  /** Whether chunks may be padded: an output of the last positions would be one of the padding. */
  get padsChunks(): boolean {
    return this.#outputs.every(({ position }) => position === "each");
  }

  /** Whether a run says of how many tokens it wants logits. */
  get asks(): boolean {
    return this.#asked !== null;
  }

  /** Runs zeros on the first `rows`, `length` on each, so that the next run of that shape is not the first. Before the first sequence. */
  async warmUp(rows: number, length: number): Promise<void> {
    this.#total[0] = length;
    this.#ids.fill(0n);
    this.#lengths.fill(length - 1);
    this.#publish(rows * length);
    await this.#bind(0, rows, length).run();
  }

  /**
   * Records the steps of these ranges of rows, of one token a row where they do not say; `run` takes recorded steps where there are. For
   * devices that record, before the first sequence.
   *
   * @param enough asked after each range: the remaining ones stay without a recording
   * @throws {DeviceError}
   */
  async record(ranges: readonly StepRange[], mode: RecordingMode, enough = () => false): Promise<void> {
    const recorder = this.#session.device.recorder!;
    // Kernels stop at each row's own length, so the longest there can be does for all.
    this.#total[0] = this.#cache.shape.capacity;
    this.#ids.fill(0n);
    if (mode.copiesResults) this.#resultCopy = this.#makeResultCopy();
    let warm = 0;
    for (const { first, count, length = 1 } of ranges) {
      const bound = this.#bindRows(first, count);
      const shape = this.#makeShape(count, length, length, this.#resultCopy);
      const step = { bound, shape, logits: this.#resultCopy?.logits ?? this.#logits };
      const binding = bindShape(bound, shape);
      this.#lengths.fill(length - 1);
      this.#publish(count * length);
      try {
        // What a size's first runs do, such as loading kernels or allocating, a recording may not do.
        for (let run = 0; run < WARM_UPS && count * length !== warm; run++) await binding.run();
        warm = count * length;
        const recording = await recorder.record(() => this.#enqueue(count * length, binding, recorder), mode);
        this.#recorded.set(stepKey(first, count, length), { ...step, recording });
      } catch (error) {
        releaseBound(bound);
        releaseShape(shape);
        throw error;
      }
      if (enough()) break;
      await new Promise(setImmediate);
    }
  }

  /** A step as it is recorded: the copy of its inputs, its kernels and, if need be, the copy of their results. */
  async #enqueue(tokens: number, binding: Binding, recorder: Recorder): Promise<void> {
    this.#publish(tokens);
    await binding.enqueue();
    const copy = this.#resultCopy;
    if (copy) recorder.download(copy.host, copy.device, copy.layout.bytes);
  }

  /** Gives the recordings up. */
  forget(): void {
    for (const { recording, bound, shape } of this.#recorded.values()) {
      recording.release();
      releaseBound(bound);
      releaseShape(shape);
    }
    this.#recorded.clear();
    this.#resultCopy?.device.free();
    this.#resultCopy?.host.free();
    this.#resultCopy = null;
  }

  /** The logits of the batch, valid until the next run. @throws {DeviceError} */
  async run(batch: Batch, { eager = false, background = false }: RunOptions = {}): Promise<Logits> {
    const { firstRow, rows, held, active } = batch;
    const length = this.#paddedLength(batch);
    let longest = 0;
    for (let row = 0; row < rows.length; row++) {
      const sequence = rows[row];
      const runs = sequence !== null && active[row];
      if (runs) sequence.copyIds(batch.length, this.#ids, row * length);
      this.#ids.fill(0n, row * length + (runs ? batch.length : 0), (row + 1) * length);
      // A row that only pads writes behind what it holds, where whatever comes next is written.
      const after = (runs ? sequence.length : (held?.[row] ?? sequence?.length ?? 0)) + length;
      this.#lengths[row] = after - 1;
      longest = Math.max(longest, after);
    }
    this.#total[0] = longest;
    const recorded = eager ? undefined : this.#recorded.get(stepKey(firstRow, rows.length, length));
    if (recorded) {
      await recorded.recording.run();
      return recorded.logits;
    }
    this.#publish(rows.length * length);
    await this.#bind(firstRow, rows.length, length, batch.asked).run(background);
    return this.#logits;
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
    return this.#recorded.size;
  }

  release(): void {
    this.forget();
    for (const bound of this.#bound.values()) releaseBound(bound);
    for (const shape of this.#shapes.values()) releaseShape(shape);
    this.#totalTensor.release();
    this.#totalMemory.free();
    this.#askedTensor?.release();
    this.#askedMemory?.free();
    this.#logitsMemory.free();
    this.#inbox.free();
  }

  /** Lets the kernels see lengths and the ids of so many tokens. */
  #publish(tokens: number): void {
    this.#inbox.publish(this.#idsAt + tokens * ELEMENT.int64.bytes);
  }

  #bind(firstRow: number, rows: number, length: number, asked = length): Binding {
    const wanted = this.#asked ? Math.min(asked, length, this.#tail) : length;
    if (this.#asked) this.#asked[0] = BigInt(wanted);
    const bound = recent(
      this.#bound,
      key(firstRow, rows),
      MAX_BINDINGS,
      () => this.#bindRows(firstRow, rows),
      releaseBound,
    );
    const shape = recent(
      this.#shapes,
      `${rows}x${length}x${wanted}`,
      MAX_SHAPES,
      () => this.#makeShape(rows, length, wanted),
      (old) => {
        for (const other of this.#bound.values()) if (other.boundShape === old) other.boundShape = undefined;
        releaseShape(old);
      },
    );
    return bindShape(bound, shape);
  }

  #bindRows(firstRow: number, rows: number): BoundRows {
    const binding = new Binding(this.#session);
    const cache = this.#cache.view(firstRow, rows);
    for (let i = 0; i < cache.length; i++) {
      const name = `${Math.floor(i / 2)}.${i % 2 === 0 ? "key" : "value"}`;
      // The same memory as past and as present: new keys and values are written in place.
      binding.input(`past.${name}`, cache[i]);
      binding.output(`present.${name}`, cache[i]);
    }
    binding.input("total_sequence_length", this.#totalTensor);
    if (this.#askedTensor) binding.input("asked", this.#askedTensor);
    return { binding, cache };
  }

  #makeShape(rows: number, length: number, asked = length, results: ResultCopy | null = null): StepShape {
    const { layout, device } = results ?? { layout: this.#layout, device: this.#logitsMemory };
    return {
      inputs: [
        ["input_ids", Tensor.view(this.#inbox.memory, this.#idsAt, "int64", [rows, length])],
        ["seqlens_k", Tensor.view(this.#inbox.memory, 0, "int32", [rows])],
      ],
      outputs: layout.tensors(device, rows, length, asked),
    };
  }

  #makeResultCopy(): ResultCopy {
    const { device } = this.#session;
    const { slots } = this.#cache.shape;
    const layout = new LogitsLayout(this.#outputs, Math.max(slots, LONGEST_STEP), slots);
    const host = device.shared(layout.bytes);
    return { layout, host, device: device.allocate(layout.bytes), logits: layout.views(host) };
  }
}

function stepKey(first: number, count: number, length: number): string {
  return `${key(first, count)}x${length}`;
}

function key(first: number, count: number): string {
  return `${first}+${count}`;
}
