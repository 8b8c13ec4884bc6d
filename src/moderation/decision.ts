import { severityOf } from "./labels.js";
import type { Verdict } from "./verdict.js";

/** A response taken one way: strict counts controversial as unsafe, loose counts it as safe. */
export interface Reading {
  flagged: boolean;
  /** Index of the token that made it so: the second of the first pair. Null where nothing was flagged. */
  flaggedAt: number | null;
}

/** What a whole response amounts to, after the debounce. */
export interface Decision {
  /** Label from the checkpoint's risk map. */
  risk: string;
  /** Category at `flaggedAt`; null where the response is safe. */
  category: string | null;
  /** Index of the token from which the response counts as `risk`; null where it is safe. */
  flaggedAt: number | null;
  strict: Reading;
  loose: Reading;
  /** Tokens judged. */
  tokens: number;
}

/** What a decision needs to know of each token. */
export type Judged = Pick<Verdict, "risk" | "category">;

/**
 * Two tokens in a row with the same label count, one does not (Qwen3Guard technical report, section 4.4). As in the
 * official evaluation, the first unsafe pair decides; only where there is none, the first controversial pair does.
 *
 * @param safeLabel the name of the safe label in the checkpoint's map
 */
export function decide(verdicts: readonly Judged[], safeLabel: string): Decision {
  let unsafe: number | null = null;
  let controversial: number | null = null;
  for (let i = 1; i < verdicts.length && unsafe === null; i++) {
    if (verdicts[i].risk !== verdicts[i - 1].risk) continue;
    const severity = severityOf(verdicts[i].risk);
    if (severity === "unsafe") unsafe = i;
    else if (severity === "controversial") controversial ??= i;
  }
  const flaggedAt = unsafe ?? controversial;
  const first = unsafe !== null && controversial !== null ? Math.min(unsafe, controversial) : flaggedAt;
  return {
    risk: flaggedAt === null ? safeLabel : verdicts[flaggedAt].risk,
    category: flaggedAt === null ? null : verdicts[flaggedAt].category,
    flaggedAt,
    strict: { flagged: first !== null, flaggedAt: first },
    loose: { flagged: unsafe !== null, flaggedAt: unsafe },
    tokens: verdicts.length,
  };
}
