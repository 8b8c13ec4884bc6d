import type { Part } from "./parts.js";
import type { ModerationViolation } from "./violation.js";

/**
 * What ends a response for its reader, after all that passed: an error that is thrown, or parts in its place. Or the
 * response goes on in another gate, which takes over the guard's stream.
 */
export type Ending<T> = { error: unknown } | { parts: readonly Part<T>[] } | { goesOn: true };

/** What a flag does to what the reader gets. The source is told to stop either way. */
export type FlagStrategy<T> = (violation: ModerationViolation) => Ending<T>;

/** The violation is thrown to the reader. */
export const stop: FlagStrategy<never> = (violation) => ({ error: violation });

/** The response ends with a text in place of what was flagged. */
export function replaceWith(text: string): FlagStrategy<never> {
  return () => ({ parts: [{ kind: "text", text }] });
}
