import { createHash } from "node:crypto";
import { RequestError } from "../gateway/api-error.js";

const MINUTE_MS = 60_000;

/** Who may ask, and how often. */
export class Keys {
  /** Hashes, so that how long a comparison takes tells nothing. */
  readonly #hashes: ReadonlySet<string>;
  readonly #perMinute: number | null;
  /** By client: requests that are left, and when they were counted. */
  readonly #left = new Map<string, { requests: number; at: number }>();

  /**
   * @param keys any of them opens; none: everybody may ask
   * @param perMinute requests of each client; null: as many as they like
   */
  constructor(keys: readonly string[], perMinute: number | null) {
    this.#hashes = new Set(keys.map(hash));
    this.#perMinute = perMinute;
  }

  /**
   * Who asks: by the key that opens, and by nothing else that a client may choose. Where there are no keys it can choose that
   * too.
   *
   * @throws {RequestError} invalid_api_key
   */
  check(request: Request): string {
    const bearer = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const given = bearer ?? request.headers.get("x-api-key") ?? request.headers.get("api-key") ?? "";
    const client = hash(given.trim());
    if (this.#hashes.size === 0 || this.#hashes.has(client)) return client;
    const message = "This service asks for a key of its own: Authorization: Bearer KEY.";
    throw new RequestError(401, "invalid_api_key", message);
  }

  /** Counts a request of a client's. @throws {RequestError} rate_limited */
  count(client: string, now = performance.now()): void {
    const most = this.#perMinute;
    if (most === null) return;
    const known = this.#left.get(client) ?? { requests: most, at: now };
    const requests = Math.min(most, known.requests + ((now - known.at) / MINUTE_MS) * most);
    if (requests < 1)
      throw new RequestError(429, "rate_limited", `No more than ${most} requests a minute. Wait a moment.`);
    this.#left.delete(client);
    this.#left.set(client, { requests: requests - 1, at: now });
    // Who has not asked for a minute has all of them again.
    for (const [other, { at }] of this.#left) {
      if (now - at < MINUTE_MS) break;
      this.#left.delete(other);
    }
  }
}

function hash(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
