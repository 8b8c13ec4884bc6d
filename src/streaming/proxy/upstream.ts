import { RequestError } from "./api-error.js";

/** Headers about one connection, not about the message. */
const OF_THE_CONNECTION = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "content-length",
];

/** The API behind the proxy. */
export class Upstream {
  readonly #base: string;

  /** @param url the API's address, with or without the `/v1` that its paths begin with */
  constructor(url: string) {
    const { origin, pathname } = new URL(url);
    this.#base = origin + pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
  }

  /**
   * Sends a request on; the Authorization header goes with it.
   *
   * @param path path and query, as the client asked
   * @throws {RequestError} upstream_unreachable; what the signal was aborted with
   */
  async send(
    path: string,
    init: { method: string; headers: Headers; body?: string | ReadableStream | null; signal: AbortSignal },
  ): Promise<Response> {
    const headers = new Headers(init.headers);
    for (const name of [...OF_THE_CONNECTION, "host", "expect", "accept-encoding"]) headers.delete(name);
    try {
      return await fetch(this.#base + path, {
        ...init,
        headers,
        redirect: "manual",
        ...(init.body instanceof ReadableStream && { duplex: "half" }),
      } as RequestInit);
    } catch (cause) {
      if (init.signal.aborted) throw init.signal.reason;
      throw new RequestError(502, "upstream_unreachable", "The model's server cannot be reached.", { cause });
    }
  }
}

/** A response's headers as they may be sent on: its body has been decoded. */
export function responseHeaders(response: Response): Headers {
  const headers = new Headers(response.headers);
  for (const name of [...OF_THE_CONNECTION, "content-encoding"]) headers.delete(name);
  return headers;
}
