import { ClosedError } from "../errors.js";
import { RequestError } from "../gateway/api-error.js";
import type { RequestRecord } from "../gateway/record/record.js";
import type { GenGuard } from "../gen-guard.js";
import type { Guard } from "../guard.js";
import type { PolicyData } from "../moderation/policy.js";
import type { Json } from "../validation/json.js";
import { TokenStream } from "./token-stream.js";

/** How often idle streams are looked for, at the most. */
const LOOK_MS = 5000;

export interface StreamLimits {
  /** Streams at once. */
  most: number;
  /** Milliseconds that a stream may have nothing to do. */
  idleMs: number;
  policy: PolicyData | undefined;
  /** A new stream's id. */
  newId: () => string;
}

/** The token streams that clients hold, each with a slot of the guard's: never for longer than they use it. */
export class TokenStreams {
  readonly #guard: Guard | GenGuard;
  readonly #limits: StreamLimits;
  readonly #open = new Map<string, TokenStream>();
  #timer: NodeJS.Timeout | undefined;

  constructor(guard: Guard | GenGuard, limits: StreamLimits) {
    this.#guard = guard;
    this.#limits = limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Milliseconds that a client may have nothing to do. */
  get idleMs(): number {
    return this.#limits.idleMs;
  }

  /** @throws {RequestError} streams_unavailable, too_many_streams; as `TokenStream` */
  open(body: Json, owner: string, record: RequestRecord): TokenStream {
    if (!("stream" in this.#guard)) {
      const message =
        "This service runs a Gen guard, which judges finished texts alone. Streams need a Stream guard.";
      throw new RequestError(400, "streams_unavailable", message);
    }
    if (this.#open.size >= this.#limits.most) {
      throw new RequestError(
        429,
        "too_many_streams",
        `All ${this.#limits.most} streams are taken. Try again in a moment.`,
      );
    }
    const { policy, newId } = this.#limits;
    const stream = new TokenStream(this.#guard, body, { policy, owner, record, id: newId() });
    this.#open.set(stream.id, stream);
    void stream.closed.then(() => this.#open.delete(stream.id));
    this.#timer ??= setInterval(() => this.#closeIdle(), Math.min(LOOK_MS, this.#limits.idleMs)).unref();
    return stream;
  }

  /** @throws {RequestError} stream_unknown: there is none, or it is somebody else's */
  of(id: string, owner: string): TokenStream {
    const stream = this.#open.get(id);
    if (stream?.owner === owner) return stream;
    throw streamUnknown();
  }

  closeAll(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const stream of this.#open.values()) stream.close();
  }

  #closeIdle(): void {
    const since = performance.now() - this.#limits.idleMs;
    for (const stream of this.#open.values()) {
      if (stream.pending > 0 || stream.usedAt >= since) continue;
      const message = `The stream had nothing to do for ${this.#limits.idleMs / 1000} seconds. Open another.`;
      stream.close(new ClosedError("STREAM_IDLE", message));
    }
    if (this.#open.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

export function streamUnknown(): RequestError {
  return new RequestError(
    404,
    "stream_unknown",
    "There is no such stream: it ended, was idle too long, or never was.",
  );
}
