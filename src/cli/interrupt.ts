import { ClosedError } from "../errors.js";

/**
 * A signal that fires at Ctrl-C, so that what is under way can clean up; the exit code is
 * then 130. A second Ctrl-C ends the process at once.
 */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once("SIGINT", () => {
    process.exitCode = 130;
    controller.abort(new ClosedError("INTERRUPTED", "Interrupted."));
  });
  return controller.signal;
}
