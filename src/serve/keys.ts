import { createHash } from "node:crypto";
import { RequestError } from "../gateway/api-error.js";

const MINUTE_MS = 60_000;

/** Counts a request of a client's; false: it has had its share for now. */
export type Take = (client: string) => boolean | Promise<boolean>;

/** Who may ask, and how often. */
export class Keys {
  /** Hashes, so that how long a comparison takes tells nothing. */
  readonly #hashes: ReadonlySet<string>;
  readonly #perMinute: number | null;
  readonly #take: Take;

  /**
   * @param keys any of them opens; none: everybody may ask
   * @param perMinute requests of each client; null: as many as they like
   * @param take counts them, where this process does not see all
   */
  constructor(keys: readonly string[], perMinute: number | null, take?: Take) {
    this.#hashes = new Set(keys.map(hash));
    this.#perMinute = perMinute;
    this.#take = take ?? shares(perMinute ?? 0);
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
  async count(client: string): Promise<void> {
    const most = this.#perMinute;
    if (most === null || (await this.#take(client))) return;
    throw new RequestError(429, "rate_limited", `No more than ${most} requests a minute. Wait a moment.`);
  }
}

/** Gives each client so many requests a minute. */
export function shares(perMinute: number): (client: string, now?: number) => boolean {
  /** By client: requests that are left, and when they were counted. */
  const left = new Map<string, { requests: number; at: number }>();
  return (client, now = performance.now()) => {
    const known = left.get(client) ?? { requests: perMinute, at: now };
    const requests = Math.min(perMinute, known.requests + ((now - known.at) / MINUTE_MS) * perMinute);
    if (requests < 1) return false;
    left.delete(client);
    left.set(client, { requests: requests - 1, at: now });
    // Who has not asked for a minute has all of them again.
    for (const [other, { at }] of left) {
      if (now - at < MINUTE_MS) break;
      left.delete(other);
    }
    return true;
  };
}

function hash(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
