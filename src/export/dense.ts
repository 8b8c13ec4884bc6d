import { encodeFloats, type FloatType } from "./float.js";
import type { Graph } from "./graph.js";
import { type Matrix, readRows, stackedRows, type WeightFormat, type WeightSource } from "./weights.js";

/** Weights as plain floats: MatMul and Gather. */
export class DenseWeights implements WeightFormat {
  readonly #source: WeightSource;
  readonly #type: FloatType;

  constructor(source: WeightSource, type: FloatType) {
    this.#source = source;
    this.#type = type;
  }

  linear(graph: Graph, name: string, input: string, sources: Matrix[]): string {
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
    const weight = graph.initializer(
      `${name}.weight`,
      this.#type,
      [table.rows, table.columns],
      async (sink) => {
        for await (const block of readRows(this.#source, [table])) {
          await sink(encodeFloats(block.data, this.#type));
        }
      },
    );
    return graph.add("Gather", [weight, ids], name);
  }
}
