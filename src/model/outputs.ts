/** Which tokens of a run have a row of an output: each of them, or the last one of every sequence alone. */
export const POSITIONS = ["each", "last"] as const;

/** An output of the graph beside the cache: float32, [batch, length, width], or [batch, 1, width] at "last". */
export interface ModelOutput {
  /** In the graph, and among the logits that the engine hands out. */
  name: string;
  /** Numbers a row. */
  width: number;
  position: (typeof POSITIONS)[number];
}
