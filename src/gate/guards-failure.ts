import {
  ClosedError,
  DeviceError,
  type GuardError,
  ModelError,
  NumericError,
  QueueFullError,
} from "../errors.js";

/**
 * What may let text pass where the policy fails open: that the guard cannot work, or has no place. Nothing that a
 * prompt, an answer or a reader can bring about is among these, nor what nobody has thought of.
 */
export function isGuardsFailure(error: unknown): error is GuardError {
  return (
    error instanceof QueueFullError ||
    error instanceof NumericError ||
    error instanceof DeviceError ||
    error instanceof ModelError ||
    (error instanceof ClosedError && error.code === "GUARD_CLOSED")
  );
}
