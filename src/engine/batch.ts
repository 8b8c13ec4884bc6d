import { Binding } from "../ort/binding.js";
import { Memory } from "../ort/memory.js";
import type { Session } from "../ort/session.js";
import { ELEMENT, type ElementType, Tensor } from "../ort/tensor.js";
import type { KvCache } from "./cache.js";
import { HEAD_NAMES, HEADS, type HeadWidths, type Logits } from "./logits.js";
import type { Sequence } from "./sequence.js";

/** Consecutive cache rows that take one step together, `length` tokens each. Rows without a sequence to run are padded. */
export interface Batch {
  firstRow: number;
  /** The sequence that owns each row, or null where none does. */
  rows: (Sequence | null)[];
  /** Which of them bring tokens. */
  active: boolean[];
  length: number;
}

/** Bindings are cheap to make (a fraction of a millisecond) but not free to keep: two OrtValues a layer each. */
const MAX_BINDINGS = 64;
const MAX_SHAPES = 256;

interface BoundRows {
  binding: Binding;
  cache: Tensor[];
  boundShape?: StepShape;
}

/** The inputs and outputs of a step that depend on its shape. */
interface StepShape {
  inputs: [string, Tensor][];
  outputs: [string, Tensor][];
}

/**
 * Runs batches. Bindings and tensors are made once for each group of rows and each shape and kept; a step writes a few
 * integers, runs, and leaves the logits in place.
 */
export class BatchRunner {
  readonly #session: Session;
  readonly #cache: KvCache;
  readonly #widths: HeadWidths;
  readonly #memories: Memory[] = [];
  readonly #ids: BigInt64Array;
  readonly #idsMemory: Memory;
  readonly #lengths: Int32Array;
  readonly #lengthsMemory: Memory;
  readonly #total: Int32Array;
  readonly #totalTensor: Tensor;
  readonly #logits: Logits;
  readonly #logitsMemory: Record<keyof Logits, Memory>;
  readonly #bound = new Map<string, BoundRows>();
  readonly #shapes = new Map<string, StepShape>();

  /** @param maxBatchTokens the most tokens a step may hold, padding included */
  constructor(session: Session, cache: KvCache, widths: HeadWidths, maxBatchTokens: number) {
    this.#session = session;
    this.#cache = cache;
    this.#widths = widths;
    this.#idsMemory = this.#allocate("int64", maxBatchTokens);
    this.#ids = new BigInt64Array(this.#idsMemory.view());
    this.#lengthsMemory = this.#allocate("int32", cache.shape.slots);
    this.#lengths = new Int32Array(this.#lengthsMemory.view());
    const total = this.#allocate("int32", 1);
    this.#total = new Int32Array(total.view());
    this.#totalTensor = Tensor.view(total, 0, "int32", []);
    const memories = {} as Record<keyof Logits, Memory>;
    const logits = {} as Logits;
    for (const head of HEAD_NAMES) {
      memories[head] = this.#allocate("float32", maxBatchTokens * widths[head]);
      logits[head] = new Float32Array(memories[head].view());
    }
    this.#logitsMemory = memories;
    this.#logits = logits;
  }

  /** The logits of the batch: row r's tokens start at index r · length. Valid until the next run. */
  async run(batch: Batch): Promise<Logits> {
    const { firstRow, rows, active, length } = batch;
    let longest = 0;
    for (let row = 0; row < rows.length; row++) {
      const sequence = rows[row];
      if (sequence && active[row]) sequence.copyIds(length, this.#ids, row * length);
      else this.#ids.fill(0n, row * length, (row + 1) * length);
      // A row that only pads writes past its own length, where its next step writes again.
      const after = (sequence?.length ?? 0) + length;
      this.#lengths[row] = after - 1;
      longest = Math.max(longest, after);
    }
    this.#total[0] = longest;
    await this.#bind(firstRow, rows.length, length).run();
    return this.#logits;
  }

  release(): void {
    for (const bound of this.#bound.values()) releaseBound(bound);
    for (const shape of this.#shapes.values()) releaseShape(shape);
    this.#totalTensor.release();
    for (const memory of this.#memories.splice(0)) memory.free();
  }

  #bind(firstRow: number, rows: number, length: number): Binding {
    const bound = recent(
      this.#bound,
      `${firstRow}+${rows}`,
      MAX_BINDINGS,
      () => this.#bindRows(firstRow, rows),
      releaseBound,
    );
    const shape = recent(
      this.#shapes,
      `${rows}x${length}`,
      MAX_SHAPES,
      () => this.#makeShape(rows, length),
      (old) => {
        for (const other of this.#bound.values()) if (other.boundShape === old) other.boundShape = undefined;
        releaseShape(old);
      },
    );
    if (bound.boundShape !== shape) {
      for (const [name, tensor] of shape.inputs) bound.binding.input(name, tensor);
      for (const [name, tensor] of shape.outputs) bound.binding.output(name, tensor);
      bound.boundShape = shape;
    }
    return bound.binding;
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
    return { binding, cache };
  }

  #makeShape(rows: number, length: number): StepShape {
    return {
      inputs: [
        ["input_ids", Tensor.view(this.#idsMemory, 0, "int64", [rows, length])],
        ["seqlens_k", Tensor.view(this.#lengthsMemory, 0, "int32", [rows])],
      ],
      outputs: HEAD_NAMES.map((head) => {
        const dims = [rows, length, this.#widths[head]];
        return [HEADS[head], Tensor.view(this.#logitsMemory[head], 0, "float32", dims)];
      }),
    };
  }

  #allocate(type: ElementType, count: number): Memory {
    const memory = Memory.allocate(count * ELEMENT[type].bytes);
    this.#memories.push(memory);
    return memory;
  }
}

/** Gets or makes an entry; beyond `limit` the one unused for longest goes. */
function recent<T>(
  map: Map<string, T>,
  key: string,
  limit: number,
  make: () => T,
  release: (old: T) => void,
): T {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    if (map.size >= limit) {
      const [oldest, old] = map.entries().next().value as [string, T];
      map.delete(oldest);
      release(old);
    }
  } else {
    map.delete(key);
  }
  map.set(key, value);
  return value;
}

function releaseBound({ binding, cache }: BoundRows): void {
  binding.release();
  for (const tensor of cache) tensor.release();
}

function releaseShape({ inputs, outputs }: StepShape): void {
  for (const [, tensor] of [...inputs, ...outputs]) tensor.release();
}
