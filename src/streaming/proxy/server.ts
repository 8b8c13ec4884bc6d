import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { InputError } from "../../errors.js";

/**
 * Milliseconds that a client may take to send a request's head, and all of it; a connection that says nothing counts from
 * its beginning. Node looks at them every so often.
 */
const TIMEOUTS = { headersTimeout: 20_000, requestTimeout: 120_000, connectionsCheckingInterval: 5_000 };
/** Milliseconds for an aborted request to say so. */
const TELL_MS = 500;

export interface Listening {
  /** Address to reach it at. */
  url: string;
  /** Takes no more requests, lets those under way end for so long, then ends them. A second call can shorten that. */
  close(graceMs: number): Promise<void>;
}

/** What answers requests, and can stop. */
export interface Service {
  fetch(request: Request): Response | Promise<Response>;
  /** Takes no more requests. */
  drain(): void;
  /** Ends those under way. */
  abort(): void;
}

/** Answers HTTP requests. @throws {InputError} PORT_UNAVAILABLE */
export async function listen(
  service: Service,
  port: number,
  hostname: string,
  timeouts = TIMEOUTS,
): Promise<Listening> {
  const server = createAdaptorServer({ fetch: service.fetch, serverOptions: timeouts });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const message = `Cannot listen on ${hostname}:${port} (${cause.code}). Choose another with --host and --port.`;
      reject(new InputError("PORT_UNAVAILABLE", message, { cause }));
    });
    server.listen(port, hostname, resolve);
  });
  const address = server.address() as AddressInfo;
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  let closed: Promise<void> | null = null;
  return {
    url: `http://${host}:${address.port}`,
    close(graceMs) {
      closed ??= new Promise<void>((resolve) => {
        service.drain();
        server.close(() => resolve());
        if ("closeIdleConnections" in server) server.closeIdleConnections();
      });
      const timer = setTimeout(end, graceMs);
      return closed.finally(() => clearTimeout(timer));
    },
  };

  function end(): void {
    service.abort();
    // What was aborted still tells its client.
    setTimeout(() => "closeAllConnections" in server && server.closeAllConnections(), TELL_MS).unref();
  }
}
