/** Which tokens of a run have a row of an output: each of them, or the last few of every sequence alone. */
export const POSITIONS = ["each", "last", "tail"] as const;

/**
 * An output of the graph beside the cache: float32, [batch, length, width], or [batch, least of length and tail, width]
 * where the last tokens alone have rows.
 */
export interface ModelOutput {
  /** In the graph, and among the logits that the engine hands out. */
  name: string;
  /** Numbers a row. */
  width: number;
  position: (typeof POSITIONS)[number];
  /** How many tokens have one at "tail"; at "last" it is one. */
  tail?: number;
}

/** How many of a run's last tokens have a row. */
export function tailOf({ position, tail = 1 }: Pick<ModelOutput, "position" | "tail">): number {
  return position === "each" ? Number.POSITIVE_INFINITY : tail;
}

/** Rows of an output for a sequence that brings so many tokens. */
export function rowsOf(output: Pick<ModelOutput, "position" | "tail">, length: number): number {
  return Math.min(length, tailOf(output));
}
