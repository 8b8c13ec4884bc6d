/**
 * Every error this package throws on purpose is a GuardError: `code` is stable and meant for programs,
 * `message` says what was wrong and what to do about it, `cause` keeps the original error where there is one.
 */
export class GuardError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** An argument or option that makes no sense: unknown dtype or device, a token id out of range, empty input. */
export class InputError extends GuardError {}

/** A checkpoint that cannot be used: missing or corrupt files, another architecture, tensors of a wrong shape. */
export class CheckpointError extends GuardError {}

/** An exported model directory that cannot be used: incomplete, corrupt, or written by a newer exporter. */
export class ModelError extends GuardError {}

/** A device or library that is not there: CUDA asked for and absent, ONNX Runtime missing or failing. */
export class DeviceError extends GuardError {}

/** More tokens than the model's context or the cache holds. */
export class ContextLengthError extends GuardError {}

/** Work asked of a stream or guard that is closed or aborted. */
export class ClosedError extends GuardError {}

/** More waiting streams than the queue may hold: retry later or raise `maxStreams`. */
export class QueueFullError extends GuardError {}

/** NaN or infinite logits. The stream fails; it is never reported as safe. */
export class NumericError extends GuardError {}

/** Files that could not be fetched or written: no network, no space, no permission. */
export class StorageError extends GuardError {}

/** The outcome of some work. Where its signal ended it, whatever the reason was, a ClosedError (ABORTED). */
export async function namingAbort<T>(
  signal: AbortSignal | undefined,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!signal?.aborted || error instanceof GuardError) throw error;
    throw new ClosedError("ABORTED", `${what} was aborted; nothing is left of it. Run it again.`, {
      cause: signal.reason,
    });
  }
}
