import type { ModelOutput } from "../model/outputs.js";
import type { Binding } from "../runtime/binding.js";
import { cpu } from "../runtime/devices/cpu.js";
import type { Device } from "../runtime/devices/device.js";
import { InputBuffer } from "../runtime/input-buffer.js";
import type { Memory } from "../runtime/memory.js";
import { ELEMENT, Tensor } from "../runtime/tensor.js";
import { aligned } from "./logits-block.js";

/** What a step is told: the integers that it reads of each row, each token, and all. The memory is the same for all steps. */
export class StepInputs {
  /** Of each row how many tokens it has after the step, minus one: [rows] int32. */
  readonly lengths: Int32Array;
  /** [rows, length] int64 */
  readonly ids: BigInt64Array;
  /** Each token's position, where the model is told it: [rows, length] int64 */
  readonly positions: BigInt64Array | null;
  /** Whether the model is told of how many of a row's last tokens logits are wanted. */
  readonly asks: boolean;
  readonly #block: InputBuffer;
  readonly #idsAt: number;
  readonly #positionsAt: number;
  readonly #total: HostScalar<Int32Array>;
  readonly #asked: HostScalar<BigInt64Array> | null;

  /** @param tokens the most that a step holds @throws {DeviceError} OUT_OF_MEMORY */
  constructor(
    device: Device,
    outputs: readonly ModelOutput[],
    rows: number,
    tokens: number,
    withPositions = false,
  ) {
    this.#idsAt = aligned(rows * ELEMENT.int32.bytes);
    const idBytes = tokens * ELEMENT.int64.bytes;
    this.#positionsAt = aligned(this.#idsAt + idBytes);
    this.#block = new InputBuffer(
      withPositions ? this.#positionsAt + idBytes : this.#idsAt + idBytes,
      device,
    );
    this.positions = withPositions ? new BigInt64Array(this.#block.view(), this.#positionsAt, tokens) : null;
    this.lengths = new Int32Array(this.#block.view(), 0, rows);
    this.ids = new BigInt64Array(this.#block.view(), this.#idsAt, tokens);
    // The kernels' own launch depends on these, so they are read on the host even where those run on a GPU.
    this.#total = hostScalar("int32", [], (buffer) => new Int32Array(buffer));
    this.asks = outputs.some(({ asked }) => asked);
    this.#asked = this.asks ? hostScalar("int64", [1], (buffer) => new BigInt64Array(buffer)) : null;
  }

  /** How many tokens the longest row has after the step. */
  set total(tokens: number) {
    this.#total.value[0] = tokens;
  }

  /** Of how many of a row's last tokens logits are wanted, of a model that `asks`. */
  set asked(tokens: number) {
    if (this.#asked) this.#asked.value[0] = BigInt(tokens);
  }

  /** The same number on each row and token: for runs that only have to be of a shape. */
  fill(length: number): void {
    this.ids.fill(0n);
    this.lengths.fill(length - 1);
  }

  /** Lets the kernels see the lengths, and the ids of so many tokens; their positions too, where they are told. */
  publish(tokens: number): void {
    const from = this.positions ? this.#positionsAt : this.#idsAt;
    this.#block.publish(from + tokens * ELEMENT.int64.bytes);
  }

  /** To be bound for steps of a shape. */
  tensors(rows: number, length: number): [string, Tensor][] {
    const { memory } = this.#block;
    const inputs: [string, Tensor][] = [
      ["input_ids", Tensor.view(memory, this.#idsAt, "int64", [rows, length])],
      ["seqlens_k", Tensor.view(memory, 0, "int32", [rows])],
    ];
    if (this.positions)
      inputs.push(["position_ids", Tensor.view(memory, this.#positionsAt, "int64", [rows, length])]);
    return inputs;
  }

  /** Binds what is the same for steps of all shapes. */
  bindScalars(binding: Binding): void {
    binding.input("total_sequence_length", this.#total.tensor);
    if (this.#asked) binding.input("asked", this.#asked.tensor);
  }

  release(): void {
    for (const scalar of [this.#total, this.#asked]) {
      scalar?.tensor.release();
      scalar?.memory.free();
    }
    this.#block.free();
  }
}

interface HostScalar<Value> {
  memory: Memory;
  value: Value;
  tensor: Tensor;
}

function hostScalar<Value>(
  type: "int32" | "int64",
  dims: number[],
  view: (buffer: ArrayBuffer) => Value,
): HostScalar<Value> {
  const memory = cpu.allocate(ELEMENT[type].bytes);
  return { memory, value: view(memory.view()), tensor: Tensor.view(memory, 0, type, dims) };
}
