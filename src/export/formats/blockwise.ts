import { encodeFloats, type FloatType } from "../../onnx/float.js";
import { type Graph, MICROSOFT, type Sink } from "../../onnx/graph.js";
import { type Matrix, readRows, stackedRows, type WeightFormat, type WeightSource } from "../weights.js";
import { type Bits, quantizeBlocks } from "./quantize.js";

/** accuracy_level of MatMulNBits: activations are quantized to int8 a block at a time, the fast CPU kernels. */
const INT8_ACTIVATIONS = 4;

/** Weights as int8 or int4 with one scale for each block of a row: MatMulNBits. */
export class BlockwiseWeights implements WeightFormat {
  readonly #source: WeightSource;
  readonly #bits: Bits;
  readonly #activation: FloatType;

  constructor(source: WeightSource, bits: Bits, activation: FloatType) {
    this.#source = source;
    this.#bits = bits;
    this.#activation = activation;
  }

  linear(graph: Graph, name: string, input: string, sources: Matrix[]): string {
    const rows = stackedRows(sources);
    const { columns } = sources[0];
    const bits = this.#bits;
    const { block, blocks, values, scales } = this.#quantized(sources, bits);
    const weight = graph.initializer(`${name}.weight`, "uint8", [rows, blocks, (block * bits) / 8], values);
    return graph.add(
      "MatMulNBits",
      [input, weight, graph.initializer(`${name}.scales`, this.#activation, [rows * blocks], scales)],
      name,
      { K: columns, N: rows, bits, block_size: block, accuracy_level: INT8_ACTIVATIONS },
      MICROSOFT,
    );
  }

  // The table stays at 8 bits: it costs no time (one row a token is read), and its error would reach every layer.
  embed(graph: Graph, name: string, ids: string, table: Matrix): string {
    const { block, blocks, values, scales } = this.#quantized([table], 8);
    const weight = graph.initializer(`${name}.weight`, "uint8", [table.rows, blocks * block], values);
    return graph.add(
      "GatherBlockQuantized",
      [weight, ids, graph.initializer(`${name}.scales`, this.#activation, [table.rows, blocks], scales)],
      name,
      { gather_axis: 0, quantize_axis: 1, block_size: block, bits: 8 },
      MICROSOFT,
    );
  }

  /** Writers of the values and of the scales. The weights are read once: the scales wait while the values go out. */
  #quantized(sources: Matrix[], bits: Bits) {
    const { columns } = sources[0];
    const block = blockSize(columns);
    const kept: Float32Array[] = [];
    const values = async (sink: Sink) => {
      for await (const { data, rows } of readRows(this.#source, sources)) {
        const quantized = quantizeBlocks(data, rows, columns, block, bits, this.#activation);
        kept.push(quantized.scales);
        await sink(quantized.values);
      }
    };
    const scales = async (sink: Sink) => {
      for (const part of kept.splice(0)) await sink(encodeFloats(part, this.#activation));
    };
    return { block, blocks: Math.ceil(columns / block), values, scales };
  }
}

/** The largest block the kernels take that divides the row; 32 with a padded last block where none does. */
export function blockSize(columns: number): number {
  return [128, 64, 32, 16].find((size) => columns % size === 0) ?? 32;
}
