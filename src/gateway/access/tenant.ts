import { createHash, randomBytes } from "node:crypto";

/** Headers that tell whose a request is: keys, tokens, users, accounts, wherever gateways have them put. */
const IDENTITY = /auth|key|token|jwt|secret|user|tenant|org|project|account|customer|session/;
/** Another one for each request or connection. */
const OF_THE_REQUEST = ["idempotency-key", "sec-websocket-key"];

/** Of this process alone, so that a hash says nothing elsewhere. */
const salt = randomBytes(16);

/**
 * Whose request it is, by its credentials, in headers or in the address: what the guard has read for one is not used for another, since the time of a
 * verdict would tell what was read before.
 */
export function tenantOf(request: Request): string {
  const hash = createHash("sha256").update(salt);
  hash.update(new URL(request.url).search);
  for (const [name, value] of request.headers) {
    if (IDENTITY.test(name) && !OF_THE_REQUEST.includes(name)) hash.update(`\n${name}: ${value}`);
  }
  return hash.digest("hex");
}
