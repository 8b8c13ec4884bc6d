import { availableParallelism } from "node:os";
import { encodeModel } from "../onnx/model.js";
import { Binding } from "../runtime/binding.js";
import { cpu } from "../runtime/devices/cpu.js";
import type { Memory } from "../runtime/memory.js";
import { Session } from "../runtime/session.js";
import { Tensor } from "../runtime/tensor.js";
import type { WeightSource } from "./weights.js";

const MAX_THREADS = 8;

/** Multiplies with a checkpoint's matrices as they are read from the disk, a block of rows at a time. */
export class Product {
  readonly #source: WeightSource;
  readonly #tokens: number;
  readonly #session: Session;
  #memories = new Map<string, Memory>();

  private constructor(source: WeightSource, tokens: number, session: Session) {
    this.#source = source;
    this.#tokens = tokens;
    this.#session = session;
  }

  static async create(source: WeightSource, tokens: number): Promise<Product> {
    return new Product(
      source,
      tokens,
      await Session.loadBytes(gemm(), { threads: Math.min(availableParallelism(), MAX_THREADS) }),
    );
  }

  /** x · Wᵀ: [tokens, columns] and a matrix [rows, columns] give [tokens, rows]. */
  async rows(
    x: { data: Float32Array; width: number },
    tensor: string,
    rows: number,
  ): Promise<{ data: Float32Array; width: number }> {
    const data = new Float32Array(this.#tokens * rows);
    const input = this.#view("x", [this.#tokens, x.width]);
    input.values.set(x.data);
    for await (const block of this.#source.rows(tensor)) {
      const count = block.data.length / x.width;
      const weight = this.#view("w", [count, x.width]);
      weight.values.set(block.data);
      const output = this.#view("y", [this.#tokens, count]);
      const binding = new Binding(this.#session);
      binding.input("x", input.tensor);
      binding.input("w", weight.tensor);
      binding.output("y", output.tensor);
      await binding.run();
      for (let token = 0; token < this.#tokens; token++) {
        data.set(output.values.subarray(token * count, (token + 1) * count), token * rows + block.row);
      }
      binding.release();
      weight.tensor.release();
      output.tensor.release();
    }
    input.tensor.release();
    return { data, width: rows };
  }

  release(): void {
    for (const memory of this.#memories.values()) memory.free();
    this.#memories.clear();
    this.#session.release();
  }

  /** A tensor over memory that is kept for the next of the same name. */
  #view(name: string, dims: [number, number]): { tensor: Tensor; values: Float32Array } {
    const count = dims[0] * dims[1];
    let memory = this.#memories.get(name);
    if (!memory || memory.bytes < 4 * count) {
      memory?.free();
      memory = cpu.allocate(4 * count);
      this.#memories.set(name, memory);
    }
    const values = new Float32Array(memory.view(), 0, count);
    return { tensor: Tensor.view(memory, 0, "float32", dims), values };
  }
}

/** A graph of one product. */
function gemm(): Uint8Array {
  const dims = (rows: string, columns: string) => ({ type: "float32" as const, dims: [rows, columns] });
  return encodeModel({
    producer: "qwen3guard-stream",
    producerVersion: "",
    opsets: [{ domain: "", version: 18 }],
    graph: {
      nodes: [
        {
          op: "Gemm",
          domain: "",
          name: "product",
          inputs: ["x", "w"],
          outputs: ["y"],
          attributes: [{ name: "transB", value: { int: 1 } }],
        },
      ],
      tensors: [],
      inputs: [
        { name: "x", ...dims("tokens", "columns") },
        { name: "w", ...dims("rows", "columns") },
      ],
      outputs: [{ name: "y", ...dims("tokens", "rows") }],
    },
  });
}
