// Which conversation a request belongs to: what its header says, else how it begins. nginx cannot look into a JSON body by
// itself; this does, in njs.

import crypto from "crypto";

/** Sends a request to the proxy that its conversation belongs to. */
function route(r) {
  r.variables.conversation = conversationOf(r);
  r.internalRedirect("@by_conversation");
}

function conversationOf(r) {
  const hash = crypto.createHash("sha256");
  // Proxies share nothing between clients with different keys: nor need they come to the same one.
  const names = ["Authorization", "X-Api-Key", "Api-Key"];
  hash.update(JSON.stringify(names.map((name) => String(r.headersIn[name]))));
  const id = r.headersIn["X-Conversation-Id"];
  hash.update(id ? id : opening(r));
  return hash.digest("hex");
}

/** The conversation up to its first user's turn, which stays the same however long it gets. */
function opening(r) {
  let body;
  try {
    body = JSON.parse(r.requestText);
  } catch (e) {
    // No JSON, or too large for nginx's buffer: by client alone.
    return "";
  }
  if (body === null || typeof body !== "object") return "";
  if (typeof body.conversation === "string") return body.conversation;
  const turns = body.messages || body.input || body.prompt;
  const system = [body.instructions, body.system];
  if (!Array.isArray(turns)) return JSON.stringify([system, turns]);
  const first = turns.findIndex((turn) => turn && turn.role === "user");
  return JSON.stringify([system, turns.slice(0, first < 0 ? 1 : first + 1)]);
}

export default { route };
