/**
 * A proxy in a process of its own, for `requests.ts`: before a server on loopback that answers with what the request's
 * `metadata.answer` names. Tells how long its event loop was held since it was last asked.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { GuardProxy } from "../src/gateway/proxy.js";
import { listen } from "../src/gateway/server.js";
import { loadGuard } from "../src/guard.js";
import { ANSWERS } from "./request-cases.js";

const PERIOD = 2;
const STREAMS = 16;

/** Milliseconds that the processor has worked for this thread, which others cannot lengthen. Linux alone tells. */
function workedMs(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  } catch {
    return 0;
  }
}

const guard = await loadGuard(process.argv[2] || undefined, { maxStreams: STREAMS });
const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const { metadata } = JSON.parse(Buffer.concat(chunks).toString());
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const content of ANSWERS[metadata?.answer ?? "short"]) {
    if (response.destroyed) return;
    const choices = [{ index: 0, delta: { content }, finish_reason: null }];
    response.write(`data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", choices })}\n\n`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  response.end("data: [DONE]\n\n");
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address() as AddressInfo;
const proxy = await listen(new GuardProxy(guard, { upstream: `http://127.0.0.1:${port}` }), 0, "127.0.0.1");

let longest = { heldMs: 0, workedMs: 0 };
let due = performance.now() + PERIOD;
let worked = workedMs();
setInterval(() => {
  const now = { heldMs: performance.now() - due, workedMs: workedMs() - worked };
  longest = {
    heldMs: Math.max(longest.heldMs, now.heldMs),
    workedMs: Math.max(longest.workedMs, now.workedMs),
  };
  due = performance.now() + PERIOD;
  worked += now.workedMs;
}, PERIOD);
process.on("message", () => {
  process.send?.(longest);
  longest = { heldMs: 0, workedMs: 0 };
});
const { maxTokens, tokenizer } = guard;
process.send?.({ url: proxy.url, maxTokens, longestToken: tokenizer.longest });
