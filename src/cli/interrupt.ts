import { ClosedError } from "../errors.js";

/** As shells have it of a process that a signal ended: 128, and the signal's number. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * A signal that fires at Ctrl-C or SIGTERM, so that what is under way can clean up; the exit code is then 130 or 143. A
 * second one ends the process at once.
 */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (signal: NodeJS.Signals) => {
    for (const name of Object.keys(EXIT_CODES)) process.off(name, stop);
    process.exitCode = EXIT_CODES[signal as keyof typeof EXIT_CODES];
    controller.abort(new ClosedError("INTERRUPTED", "Interrupted."));
  };
  for (const name of Object.keys(EXIT_CODES)) process.on(name, stop);
  return controller.signal;
}

/** Whether the process ends because it was asked to. */
export function isInterrupted(): boolean {
  return Object.values(EXIT_CODES).some((code) => code === process.exitCode);
}
