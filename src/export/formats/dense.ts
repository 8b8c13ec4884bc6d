import { encodeFloats, type FloatType } from "../../onnx/float.js";
import { type Graph, MICROSOFT, type Sink } from "../../onnx/graph.js";
import { type Matrix, readRows, stackedRows, type WeightFormat, type WeightSource } from "../weights.js";

/** Weights as plain floats. */
export class DenseWeights implements WeightFormat {
  readonly #source: WeightSource;
  readonly #type: FloatType;

  constructor(source: WeightSource, type: FloatType) {
    this.#source = source;
    this.#type = type;
  }

  linear(graph: Graph, name: string, input: string, sources: Matrix[]): string {
    return this.#type === "float32"
      ? this.#turned(graph, name, input, sources)
      : this.#asStored(graph, name, input, sources);
  }

  /** As the checkpoint has it, [rows, columns], and as cuBLAS gets it from PyTorch: written as it is read. */
  #asStored(graph: Graph, name: string, input: string, sources: Matrix[]): string {
    const dims = [stackedRows(sources), sources[0].columns];
    const weight = graph.initializer(`${name}.weight`, this.#type, dims, (sink) =>
      this.#write(sources, sink),
    );
    return graph.add("FusedMatMul", [input, weight], name, { transB: 1 }, MICROSOFT);
  }

  #turned(graph: Graph, name: string, input: string, sources: Matrix[]): string {
    const rows = stackedRows(sources);
    const { columns } = sources[0];
    const weight = graph.initializer(`${name}.weight`, this.#type, [columns, rows], async (sink) => {
      // MatMul wants [columns, rows]: the matrix is turned in memory, the one place that needs it whole.
      const turned = new Float32Array(columns * rows);
      for await (const block of readRows(this.#source, sources)) {
        for (let column = 0; column < columns; column++) {
          const to = column * rows + block.row;
          for (let r = 0; r < block.rows; r++) turned[to + r] = block.data[r * columns + column];
        }
      }
      await sink(encodeFloats(turned, this.#type));
    });
    return graph.add("MatMul", [input, weight], name);
  }

  embed(graph: Graph, name: string, ids: string, table: Matrix): string {
    const dims = [table.rows, table.columns];
    const weight = graph.initializer(`${name}.weight`, this.#type, dims, (sink) =>
      this.#write([table], sink),
    );
    return graph.add("Gather", [weight, ids], name);
  }

  async #write(sources: Matrix[], sink: Sink): Promise<void> {
    for await (const { data } of readRows(this.#source, sources)) await sink(encodeFloats(data, this.#type));
  }
}
