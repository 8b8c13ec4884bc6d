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
  /** At "tail": each run says how many of them have one, none among them (the input `asked`). */
  asked?: true;
}

/** How many of a run's last tokens have a row, at the most. */
export function tailOf({ position, tail = 1 }: Pick<ModelOutput, "position" | "tail">): number {
  return position === "each" ? Number.POSITIVE_INFINITY : tail;
}

/** Rows of an output for a sequence that brings so many tokens, and asks for so many of the last. */
export function rowsOf(
  output: Pick<ModelOutput, "position" | "tail" | "asked">,
  length: number,
  asked = length,
): number {
  return Math.min(output.asked ? asked : length, length, tailOf(output));
}
