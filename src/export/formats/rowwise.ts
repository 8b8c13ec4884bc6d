import { bytesOf } from "../../onnx/float.js";
import { type Graph, MICROSOFT, type Sink } from "../../onnx/graph.js";
import {
  type Matrix,
  readRows,
  stackedRows,
  type Unscaled,
  type WeightFormat,
  type WeightSource,
} from "../weights.js";
import { BlockwiseWeights } from "./blockwise.js";
import { HIGHEST, quantizeRows } from "./quantize.js";

/** Activations in [−1, 1] become unsigned bytes around this. */
const ZERO_POINT = 128;
/** Keeps a row of zeros from being divided by zero. */
const TINY = 1e-12;

/** One token's activations as bytes, and the number that scales them back. */
interface QuantizedInput {
  values: string;
  maximum: string;
}

/**
 * w8a8: weights as int8 with one scale for each output, activations as uint8 with one scale for each token, multiplied
 * in integers. A token's scale comes from that token alone: what shares a batch or a chunk with it changes nothing.
 * (DynamicQuantizeMatMul would take one scale from the whole batch.)
 */
export class RowwiseWeights implements WeightFormat {
  readonly oneByOne = true;
  readonly #source: WeightSource;
  readonly #table: BlockwiseWeights;
  readonly #quantized = new Map<string, QuantizedInput>();

  constructor(source: WeightSource) {
    this.#source = source;
    this.#table = new BlockwiseWeights(source, 8, "float32");
  }

  linear(graph: Graph, name: string, input: string, sources: Matrix[], factor?: string): string {
    const { values, factor: maximum } = this.unscaled(graph, name, input, sources);
    const scale = factor ? graph.add("Mul", [maximum, factor], `${name}.scale`) : maximum;
    return graph.add("Mul", [values, scale], name);
  }

  unscaled(graph: Graph, name: string, input: string, sources: Matrix[]): Required<Unscaled> {
    const rows = stackedRows(sources);
    const { columns } = sources[0];
    const { values, maximum } = this.#quantize(graph, input);
    let kept: Float32Array | undefined;
    const weight = graph.initializer(`${name}.weight`, "int8", [columns, rows], async (sink) => {
      const quantized = await this.#transposed(sources, rows, columns);
      kept = quantized.scales;
      await sink(bytesOf(quantized.values));
    });
    const scales = graph.initializer(`${name}.scales`, "float32", [rows], async (sink: Sink) => {
      await sink(bytesOf(kept as Float32Array));
      kept = undefined;
    });
    const product = graph.add(
      "MatMulIntegerToFloat",
      [values, weight, stepSize(graph), scales, zeroPoint(graph)],
      `${name}.product`,
      {},
      MICROSOFT,
    );
    return { values: product, factor: maximum };
  }

  embed(graph: Graph, name: string, ids: string, table: Matrix): string {
    return this.#table.embed(graph, name, ids, table);
  }

  /** Divides each token by its largest magnitude and rounds to bytes; once for all that read the same input. */
  #quantize(graph: Graph, input: string): QuantizedInput {
    let quantized = this.#quantized.get(input);
    if (!quantized) {
      const tiny = graph.constant("tiny", "float32", [], Float32Array.of(TINY));
      const magnitude = graph.add("Abs", [input], `${input}.magnitude`);
      let highest = graph.add("ReduceMax", [magnitude, graph.ints("last_axis", [-1])], `${input}.highest`, {
        keepdims: 1,
      });
      // Of no token ONNX Runtime leaves the axis as long as it was.
      if (graph.mayBeEmpty)
        highest = graph.add("Reshape", [highest, graph.ints("one_each", [0, 0, 1])], `${input}.highest.each`);
      const maximum = graph.add("Max", [highest, tiny], `${input}.maximum`);
      // One division a token, not one a number: the kernel takes twice as long for them as for products.
      const inverse = graph.add("Reciprocal", [maximum], `${input}.inverse`);
      const scaled = graph.add("Mul", [input, inverse], `${input}.scaled`);
      const values = graph.add(
        "QuantizeLinear",
        [scaled, stepSize(graph), zeroPoint(graph)],
        `${input}.quantized`,
      );
      quantized = { values, maximum };
      this.#quantized.set(input, quantized);
    }
    return quantized;
  }

  /** The kernel wants [columns, rows], so the matrix is turned in memory, in bytes. */
  async #transposed(sources: Matrix[], rows: number, columns: number) {
    const values = new Int8Array(columns * rows);
    const scales = new Float32Array(rows);
    for await (const block of readRows(this.#source, sources)) {
      const part = quantizeRows(block.data, block.rows, columns);
      scales.set(part.scales, block.row);
      for (let column = 0; column < columns; column++) {
        const to = column * rows + block.row;
        for (let r = 0; r < block.rows; r++) values[to + r] = part.values[r * columns + column];
      }
    }
    return { values, scales };
  }
}

function stepSize(graph: Graph): string {
  return graph.constant("activation_step", "float32", [], Float32Array.of(1 / HIGHEST));
}

function zeroPoint(graph: Graph): string {
  return graph.constant("activation_zero", "uint8", [], Uint8Array.of(ZERO_POINT));
}
