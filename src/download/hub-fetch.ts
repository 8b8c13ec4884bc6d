import { StorageError } from "../errors.js";

/** The hub's own limit is 10; a CDN adds some. */
const MOST_REDIRECTS = 20;
const REDIRECTS = [301, 302, 303, 307, 308];

/** No connection came about, or it broke. */
export class UnreachableError extends Error {}

/**
 * `fetch`, but each redirect is looked at: its target is an http(s) address, there are not endlessly many, and
 * `headersFor` says which headers it is sent.
 *
 * @throws {StorageError} HUB_FAILED: redirects in a circle, or to an address that is not http(s)
 * @throws {UnreachableError}
 */
export async function fetchFollowing(
  url: URL,
  init: RequestInit,
  headersFor: (url: URL) => Headers,
): Promise<Response> {
  let target = url;
  for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
    requireHttp(target, url);
    const options = { ...init, headers: headersFor(target), redirect: "manual" } as const;
    const response = await fetch(target, options).catch((cause) => {
      init.signal?.throwIfAborted();
      throw new UnreachableError("No answer", { cause });
    });
    const location = response.headers.get("location");
    if (!REDIRECTS.includes(response.status) || location === null) return response;
    await response.body?.cancel();
    if (!URL.canParse(location, target.href)) throw strange(url, "redirects to something that is no address");
    target = new URL(location, target);
  }
  throw strange(url, `redirects more than ${MOST_REDIRECTS} times, in a circle`);
}

function requireHttp({ protocol }: URL, asked: URL): void {
  if (protocol === "http:" || protocol === "https:") return;
  throw strange(asked, `redirects to an address of ${protocol}, which is not fetched`);
}

function strange({ origin, pathname }: URL, what: string): StorageError {
  return new StorageError("HUB_FAILED", `${origin}${pathname} ${what}. Check HF_ENDPOINT, or try a mirror.`);
}

/**
 * The response with its body read as a whole: an API's JSON, which has no business to be endless.
 *
 * @throws {StorageError} HUB_FAILED: more than `maxBytes`
 * @throws {UnreachableError} the connection broke
 */
export async function wholeResponse(response: Response, maxBytes: number): Promise<Response> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of response.body ?? []) {
      bytes += piece.byteLength;
      if (bytes > maxBytes) throw strange(new URL(response.url), `answers with more than ${maxBytes} bytes`);
      pieces.push(piece);
    }
  } catch (cause) {
    if (cause instanceof StorageError) throw cause;
    throw new UnreachableError("The connection broke", { cause });
  }
  return new Response(Buffer.concat(pieces), { status: response.status, headers: response.headers });
}
