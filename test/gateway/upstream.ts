import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
  /** Whether the proxy left before the answer was over. */
  aborted: Promise<boolean>;
}

/**
 * What the server sends: bytes, one write each; numbers are milliseconds to wait, Infinity until the client has left;
 * promises are waited for; "die" cuts the connection.
 */
export type Script = Iterable<string | Uint8Array | number | Promise<unknown> | "die">;

/** An API by script on loopback. */
export async function scriptedUpstream() {
  const asked: Asked[] = [];
  let answer: (asked: Asked) => {
    status?: number;
    type?: string;
    headers?: Record<string, string>;
    script: Script;
  } = () => ({ script: [] });

  // It has no clients but ours, however long a busy machine takes them to ask.
  const limits = { headersTimeout: 0, requestTimeout: 0 };
  const server = createServer(limits, async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const entry: Asked = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
      aborted: new Promise((resolve) => response.on("close", () => resolve(!response.writableFinished))),
    };
    asked.push(entry);
    const { status = 200, type = "text/event-stream", headers = {}, script } = answer(entry);
    response.writeHead(status, { "content-type": type, "x-upstream": "yes", ...headers });
    response.flushHeaders();
    response.setMaxListeners(0);
    for (const step of script) {
      if (response.destroyed) return;
      if (step === Number.POSITIVE_INFINITY) await entry.aborted;
      else if (typeof step === "number") await sleep(step);
      else if (step instanceof Promise) await step;
      else if (step === "die") return void response.destroy();
      else {
        if (!response.write(step)) await Promise.race([once(response, "drain"), once(response, "close")]);
        await sleep(0);
      }
    }
    response.end();
  });
  server.keepAliveTimeout = 1000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    answerWith(next: typeof answer) {
      answer = next;
    },
    /** Answers every request with these events. */
    stream(...events: (object | string | number)[]) {
      const isStep = (event: object | string | number) =>
        typeof event === "number" || event instanceof Promise;
      answer = () => ({ script: events.map((event) => (isStep(event) ? event : sse(event))) as Script });
    },
    json(body: object, status = 200) {
      answer = () => ({ status, type: "application/json", script: [JSON.stringify(body)] });
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const sse = (event: object | string) =>
  `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`;

const base = { id: "c1", object: "chat.completion.chunk", created: 1, model: "m" };

/** A chunk of a chat completion. */
export function chunk(delta: object, finish_reason: string | null = null, index = 0): object {
  return { ...base, choices: [{ index, delta, finish_reason }] };
}

/** A whole chat completion's events. */
export function reply(...deltas: string[]): (object | string)[] {
  return [
    chunk({ role: "assistant", content: "" }),
    ...deltas.map((content) => chunk({ content })),
    chunk({}, "stop"),
    { ...base, choices: [], usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 } },
    "[DONE]",
  ];
}
