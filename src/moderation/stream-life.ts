import { ClosedError, type GuardError } from "../errors.js";
import { deferred } from "./deferred.js";
import { IdleTimer } from "./idle-timer.js";

interface Failing {
  readonly failure: GuardError | null;
}

/**
 * How long a stream is open: until somebody stops it, its signal fires, nothing was to be done for too long, or what it does
 * fails. All of that ends it in one place; what comes after the first time changes nothing.
 */
export class StreamLife {
  /** When it began: milliseconds of `performance.now()`. */
  readonly openedAt = performance.now();
  readonly #closed = deferred<GuardError>();
  readonly #idle: IdleTimer;
  readonly #work: Failing;
  readonly #end: (reason: GuardError) => void;
  #signal: AbortSignal | undefined;
  #over = false;

  /**
   * @param idleMs after which one that has nothing to do is stopped. Default: none is
   * @param work what may have failed before anybody was told
   * @param end lets go of all that the stream holds
   */
  constructor(idleMs: number | undefined, work: Failing, end: (reason: GuardError) => void) {
    this.#idle = new IdleTimer(idleMs, () => this.stop(idle(idleMs as number)));
    this.#work = work;
    this.#end = end;
  }

  /** Why it ended, once it has. Never rejects. */
  get closed(): Promise<GuardError> {
    return this.#closed.promise;
  }

  /** When it last had something to do: milliseconds of `performance.now()`. */
  get usedAt(): number {
    return this.#idle.usedAt;
  }

  /** Stops it when the signal fires; at once where it has fired. */
  heed(signal: AbortSignal | undefined): void {
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
    if (signal?.aborted) this.#abort();
  }

  /** Where this fails, the stream does: going on would leave a hole in what was judged. */
  during<T>(work: Promise<T>): Promise<T> {
    this.#idle.during(work);
    work.catch((error) => this.stop(error));
    return work;
  }

  /** As `during`, before anybody else can call. */
  now<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.stop(error as GuardError);
      throw error;
    }
  }

  stop(reason: GuardError): void {
    if (this.#over) return;
    this.#over = true;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#idle.stop();
    this.#closed.resolve(this.#work.failure ?? reason);
    this.#end(reason);
  }

  #abort = (): void => {
    const cause = this.#signal?.reason;
    this.stop(new ClosedError("STREAM_ABORTED", "The stream was aborted by its signal.", { cause }));
  };
}

function idle(ms: number): ClosedError {
  return new ClosedError(
    "STREAM_IDLE",
    `Nothing was pushed for ${ms} ms, so the stream was closed and its slot is free. Open another with ` +
      "guard.stream(), or load the guard with a longer idleMs.",
  );
}
