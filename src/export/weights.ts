import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { encodeFloats, type FloatType } from "../onnx/float.js";
import type { Graph } from "../onnx/graph.js";

/** Where weights come from: a checkpoint, or one made fit for the kernels. */
export type WeightSource = Pick<Checkpoint, "config" | "rows" | "read">;

/** A checkpoint's matrix: [rows, columns], as a Linear stores it: y = x · Wᵀ. */
export interface Matrix {
  tensor: string;
  rows: number;
  columns: number;
}

/** What becomes y once it is multiplied by a factor of each token, [batch, length, 1]. */
export interface Unscaled {
  values: string;
  factor?: string;
}

/** How weights are stored and multiplied: one implementation for each dtype of `qwen3guard export`. */
export interface WeightFormat {
  /** Matrices over one input are multiplied one by one: cutting their sums apart takes longer than stacking saves. */
  readonly oneByOne?: true;
  /**
   * y = x · Wᵀ for the matrices of `sources` stacked on their rows. Returns y's name.
   *
   * @param factor what x still lacks; it can only come of `unscaled`
   */
  linear(graph: Graph, name: string, input: string, sources: Matrix[], factor?: string): string;
  /** The same without a factor of each token, for formats that multiply by one in the end. */
  unscaled?(graph: Graph, name: string, input: string, sources: Matrix[]): Unscaled;
  /** Looks up the rows of the embedding table. Returns the activations' name, [batch, length, hidden]. */
  embed(graph: Graph, name: string, ids: string, table: Matrix): string;
}

export function stackedRows(sources: Matrix[]): number {
  return sources.reduce((sum, matrix) => sum + matrix.rows, 0);
}

/** Streams the rows of several matrices one after the other, blocks of rows at a time. */
export async function* readRows(
  source: WeightSource,
  sources: Matrix[],
): AsyncGenerator<{ row: number; rows: number; data: Float32Array }> {
  let base = 0;
  for (const { tensor, rows, columns } of sources) {
    for await (const { row, data } of source.rows(tensor, rowsPerBlock(columns))) {
      yield { row: base + row, rows: data.length / columns, data };
    }
    base += rows;
  }
}

/** Blocks of about 4 MiB of float32: large enough to stream at disk speed, small enough to stay in the L2 cache. */
function rowsPerBlock(columns: number): number {
  return Math.max(1, Math.floor(2 ** 20 / columns));
}

/** A norm's weight or another small vector, in the activations' type. */
export function vector(
  graph: Graph,
  source: WeightSource,
  tensor: string,
  length: number,
  type: FloatType,
): string {
  return graph.initializer(tensor, type, [length], async (sink) =>
    sink(encodeFloats(await source.read(tensor), type)),
  );
}
