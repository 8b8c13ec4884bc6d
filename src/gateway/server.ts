import { IncomingMessage, type Server } from "node:http";
import type { AddressInfo, ListenOptions, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createAdaptorServer, type HttpBindings } from "@hono/node-server";
import { InputError } from "../errors.js";
import { destroyLate } from "./destroy-late.js";
import { OpenConnections } from "./open-connections.js";

/**
 * Milliseconds that a client may take to send a request's head, and all of it; a connection that says nothing counts from
 * its beginning. Node looks at them every so often.
 */
const TIMEOUTS = { headersTimeout: 20_000, requestTimeout: 120_000, connectionsCheckingInterval: 5_000 };
/** Bytes of a body that nobody wants, and milliseconds, before its connection is given up. */
const MOST_UNWANTED = 64 * 2 ** 20;
const UNWANTED_MS = 5_000;
/** Milliseconds for an aborted request to say so. */
const TELL_MS = 500;

export interface Listening {
  /** Address to reach it at. */
  url: string;
  /**
   * Takes no more connections, lets requests that are under way, or on their way, end for so long, then ends them. A second call can
   * shorten that.
   */
  close(graceMs: number): Promise<void>;
}

/** What answers requests, and can stop. */
export interface Service {
  fetch(request: Request): Response | Promise<Response>;
  /** Takes no more requests. */
  drain(): void;
  /** Ends those under way. */
  abort(): void;
  /** Takes over connections that ask to become sockets. Without it they are answered like any other. */
  upgrade?(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
}

/** Answers HTTP requests. @throws {InputError} PORT_UNAVAILABLE */
export function listen(
  service: Service,
  port: number,
  hostname: string,
  timeouts = TIMEOUTS,
): Promise<Listening> {
  return listenAt(service, { port, host: hostname }, timeouts);
}

/** Answers HTTP requests, also where another process passes them on. @throws {InputError} PORT_UNAVAILABLE */
export async function listenAt(
  service: Service,
  where: ListenOptions,
  timeouts = TIMEOUTS,
): Promise<Listening> {
  const server = createAdaptorServer({
    fetch: (request, env) => answer(service, request, env as HttpBindings),
    serverOptions: { ...timeouts, IncomingMessage: Http1Message },
  }) as Server;
  if (service.upgrade) {
    server.on("upgrade", (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
      service.upgrade?.(incoming, socket, head).catch(() => socket.destroy());
    });
  }
  const connections = new OpenConnections(server);
  await bind(server, where);
  return {
    url: urlOf(server.address()),
    close(graceMs) {
      service.drain();
      const timer = setTimeout(end, graceMs);
      return connections.close(graceMs).finally(() => clearTimeout(timer));
    },
  };

  function end(): void {
    service.abort();
    // What was aborted still tells its client.
    setTimeout(() => server.closeAllConnections(), TELL_MS).unref();
  }
}

/** @throws {InputError} PORT_UNAVAILABLE */
function bind(server: Server, where: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const place = where.path ?? `${where.host}:${where.port}`;
      const message = `Cannot listen on ${place} (${cause.code}). Choose another with --host and --port.`;
      reject(new InputError("PORT_UNAVAILABLE", message, { cause }));
    });
    server.listen(where, () => resolve());
  });
}

/**
 * An offer of another protocol may be left alone (RFC 9110, 7.8): a request that offers HTTP/2, as Java's HttpClient does
 * by default, is one like any other. Where a server listens for sockets, Node would hand it over with them.
 */
class Http1Message extends IncomingMessage {
  /** As Node's parser sets it. No private field: it is set while the object is made. */
  declare asksUpgrade: boolean | null;

  get upgrade(): boolean {
    const { method, headers } = this;
    return (
      this.asksUpgrade === true && (method === "CONNECT" || headers.upgrade?.toLowerCase() === "websocket")
    );
  }

  set upgrade(asks: boolean | null) {
    this.asksUpgrade = asks;
  }
}

/**
 * A refusal goes out once the body has come, though nobody wants it: on a connection with an unread rest the client might
 * not get it, and would lose what it asks next.
 */
async function answer(
  service: Service,
  request: Request,
  { incoming, outgoing }: HttpBindings,
): Promise<Response> {
  const response = await service.fetch(request);
  const closes = response.headers.get("connection") === "close";
  const unread = closes || response.status === 413 || (response.status >= 400 && !request.bodyUsed);
  // Who reads the body may go on while it is answered, as an API does that refuses an upload before its end.
  const early = !unread && request.bodyUsed && !incoming.readableEnded;
  if (!unread && !early) return response;
  const headers = new Headers(response.headers);
  if (unread && (await readToEnd(incoming))) headers.delete("connection");
  else {
    headers.set("connection", "close");
    closeLate(incoming.socket);
    if (early) outgoing.once("finish", () => void readToEnd(incoming));
  }
  return new Response(response.body, { status: response.status, headers });
}

/** Whether a request's body is at its end, after dropping the rest of it. */
function readToEnd(incoming: IncomingMessage): Promise<boolean> {
  return new Promise((resolve) => {
    if (incoming.readableEnded || incoming.destroyed) return resolve(incoming.readableEnded);
    const timer = setTimeout(() => end(false), UNWANTED_MS);
    const end = (whole: boolean) => {
      clearTimeout(timer);
      resolve(whole);
    };
    let bytes = 0;
    // Who began to read it would pause it.
    incoming.removeAllListeners("data");
    incoming.on("data", ({ length }: Buffer) => {
      bytes += length;
      if (bytes > MOST_UNWANTED) end(false);
    });
    incoming.once("close", () => end(false));
    incoming.once("end", () => end(true));
    incoming.resume();
  });
}

/**
 * Behind the answer says no more, and goes on dropping what comes: a connection that is closed on a client that writes may take
 * the answer with it.
 */
function closeLate(socket: Socket): void {
  socket.destroySoon = () => {
    socket.end();
    destroyLate(socket, UNWANTED_MS);
  };
}

/** Of what listens on a path the path. */
function urlOf(address: AddressInfo | string | null): string {
  if (address === null || typeof address === "string") return address ?? "";
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return `http://${host}:${address.port}`;
}
