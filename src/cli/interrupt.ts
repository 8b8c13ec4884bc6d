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

/** Resolves when the process is asked to stop, by Ctrl-C or SIGTERM. */
export function signalled(): Promise<void> {
  return new Promise((resolve) => {
    const stop = () => {
      process.off("SIGINT", stop);
      process.off("SIGTERM", stop);
      resolve();
    };
    process.on("SIGINT", stop);
    process.on("SIGTERM", stop);
  });
}
