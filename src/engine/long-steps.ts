import { InputError } from "../errors.js";
import { LONGEST_STEP, type StepRange } from "./recorded-steps.js";

/** Rows whose longer steps are recorded, where they are at all: few streams use those alone. */
const ROWS = 16;

/**
 * Tokens of one stream that recorded steps take besides a single one, from QWEN3GUARD_LONG_STEPS: "2,4,8". None by
 * default: whether they pay was never measured.
 *
 * @throws {InputError} OPTION_INVALID
 */
export function longStepLengths(): number[] {
  const lengths = (process.env.QWEN3GUARD_LONG_STEPS || "").split(",").filter(Boolean).map(Number);
  const fits = (length: number, i: number) =>
    Number.isInteger(length) && length > (lengths[i - 1] ?? 1) && length <= LONGEST_STEP;
  if (lengths.every(fits)) return lengths;
  throw new InputError(
    "OPTION_INVALID",
    `QWEN3GUARD_LONG_STEPS must be ascending whole numbers from 2 to ${LONGEST_STEP}, such as "2,4,8".`,
  );
}

/** The first rows, each with steps of these lengths. */
export function longRanges(slots: number, lengths: readonly number[]): StepRange[] {
  const rows = Array.from({ length: Math.min(slots, ROWS) }, (_, first) => first);
  return rows.flatMap((first) => lengths.map((length) => ({ first, count: 1, length })));
}
