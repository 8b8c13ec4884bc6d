import { ClosedError } from "../errors.js";
import type { FromWorker, ToWorker } from "../gateway/cluster/messages.js";
import { isWorker } from "./cluster.js";

/** How a server is asked to stop: by Ctrl-C and SIGTERM, or where it is a worker by its pool. */
export interface Stop {
  /** Fires at the first request. */
  readonly asked: AbortSignal;
  /** Resolves at the next one, which does not wait. Until this is called, that ends the process at once. */
  again(): Promise<void>;
}

const SIGNALS = ["SIGINT", "SIGTERM"];

/** Heard from the first moment on, as the program imports this first: what came before would be lost. */
const fromPool = isWorker ? heedPool() : null;

/**
 * Runs a server, which can be asked to stop from now on. Where that ends it before it serves, nothing is wrong.
 *
 * @throws as `serve`
 */
export async function untilStopped(serve: (stop: Stop) => Promise<void>): Promise<void> {
  const unheed = new AbortController();
  const stop = fromPool ?? heedSignals(unheed.signal);
  try {
    await serve(stop);
  } catch (error) {
    if (!stop.asked.aborted || !(error instanceof ClosedError)) throw error;
  } finally {
    unheed.abort();
  }
}

/** Waits until it is asked to stop, then lets what is under way end for so many seconds; a second request does not wait. */
export async function closeWhenAsked(
  server: { close(graceMs: number): Promise<void> },
  graceSeconds: number,
  stop: Stop,
): Promise<void> {
  await firing(stop.asked);
  const impatient = stop.again().then(() => server.close(0));
  await Promise.race([server.close(graceSeconds * 1000), impatient]);
}

function heedSignals(unheed: AbortSignal): Stop {
  const asked = new AbortController();
  const again = () => signalled(unheed);
  void again().then(() => asked.abort());
  return { asked: asked.signal, again };
}

/** Signals are for the pool alone: Ctrl-C reaches all processes of a terminal, and SIGTERM may those of a service. */
function heedPool(): Stop {
  for (const signal of [...SIGNALS, "SIGHUP"]) process.on(signal, () => {});
  const [asked, now] = [new AbortController(), new AbortController()];
  process.on("message", (message: ToWorker) => {
    if (message.kind !== "close") return;
    asked.abort();
    if (message.now) now.abort();
  });
  const started: FromWorker = { kind: "started" };
  process.send?.(started, undefined, undefined, () => {});
  return { asked: asked.signal, again: () => firing(now.signal) };
}

function signalled(unheed: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const stop = () => {
      ignore();
      resolve();
    };
    const ignore = () => {
      for (const signal of SIGNALS) process.off(signal, stop);
    };
    for (const signal of SIGNALS) process.on(signal, stop);
    unheed.addEventListener("abort", ignore);
  });
}

function firing(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}
