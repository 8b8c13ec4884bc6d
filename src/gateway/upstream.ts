import { RequestError } from "./api-error.js";
import { hearOut } from "./late-failure.js";
import { POLICY_HEADER } from "./policies/policy-override.js";
import type { RequestRecord } from "./record/record.js";

/** Headers about one connection, not about the message. */
const OF_THE_CONNECTION = [
  ...["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"],
  ...["transfer-encoding", "upgrade", "http2-settings", "content-length"],
];
/** What else of a request stays here: a browser's, or such as would make another request of it. */
const NOT_SENT = [
  ...["host", "expect", "accept-encoding", "cookie"],
  ...["origin", "referer", "access-control-request-method", "access-control-request-headers"],
  ...["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"],
  POLICY_HEADER,
];
/** What else of an answer stays here: its body has been decoded, and what a web page may do is ours to say. */
const NOT_ANSWERED = ["content-encoding", "set-cookie", "alt-svc"];

interface Init {
  method: string;
  headers: Headers;
  body?: string | ReadableStream | null;
  signal: AbortSignal;
  plain?: boolean;
}

/** The API behind the proxy. */
export class Upstream {
  readonly #base: string;

  /** @param url the API's address, with or without the `/v1` that its paths begin with */
  constructor(url: string) {
    const { origin, pathname } = new URL(url);
    hearOut(origin);
    this.#base = origin + pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
  }

  /**
   * Sends a request on; the Authorization header goes with it.
   *
   * @param path path and query, as the client asked
   * @param init.plain asks for an answer that is not compressed: pieces of a stream might wait for each other, and of a broken
   *   one Node's fetch does not always tell
   * @throws {RequestError} upstream_unreachable; what the signal was aborted with
   */
  async send(path: string, { plain = false, ...init }: Init): Promise<Response> {
    const headers = new Headers(init.headers);
    strip(headers, NOT_SENT);
    if (plain) headers.set("accept-encoding", "identity");
    try {
      // Not by way of another Response, as hono/proxy does: when a fetched one is collected, its body is cancelled.
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

/** A request's headers as they go on: with the trace's, where there is one. */
export function headersOf(request: Request, { trace }: RequestRecord): Headers {
  const headers = new Headers(request.headers);
  trace?.inject(headers);
  return headers;
}

/** A response's headers as they may be sent on. */
export function responseHeaders(response: Response): Headers {
  const headers = new Headers(response.headers);
  const cors = [...headers.keys()].filter((name) => name.startsWith("access-control-"));
  strip(headers, [...NOT_ANSWERED, ...cors]);
  return headers;
}

function strip(headers: Headers, names: readonly string[]): void {
  // RFC 9110, section 7.6.1: a Connection header names others that are for this connection alone.
  const named = (headers.get("connection") ?? "").split(",").map((name) => name.trim());
  const tokens = named.filter((name) => /^[\w!#$%&'*+.^`|~-]+$/.test(name));
  for (const name of [...OF_THE_CONNECTION, ...names, ...tokens]) headers.delete(name);
}
