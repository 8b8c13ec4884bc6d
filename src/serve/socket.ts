import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { ClosedError } from "../errors.js";
import { RequestError, toRequestError } from "../gateway/api-error.js";
import { isRecord, type Json } from "../gateway/json.js";
import type { TokenStream } from "./token-stream.js";

/** Messages of a client's that wait; then it is not read on before some are judged. */
const MOST_WAITING = 16;
/** Bytes that a client has not read; then nothing more is judged for it. */
const MOST_UNREAD = 1 << 20;
/** A peer that has not answered a ping by the next one is gone. */
const PING_MS = 30_000;
/** Codes of RFC 6455: done, the service ends, and a message that is not taken. */
const DONE = 1000;
const GOING_AWAY = 1001;
const REFUSED = 1008;
/** Milliseconds for a client to answer that its socket is closed. */
const GOODBYE_MS = 500;

/**
 * One stream over a WebSocket: `open`, then `push` as often as there is something, then `end`, or `close` at any time.
 * Messages are JSON, and answered in order. The stream ends with the socket, however that does.
 *
 * @param idleMs milliseconds in which it must open one
 */
export function serveSocket(socket: WebSocket, open: (body: Json) => TokenStream, idleMs: number): void {
  let stream: TokenStream | null = null;
  let ended = false;
  let waiting = 0;
  let work = Promise.resolve();
  let alive = true;

  const heart = setInterval(() => {
    if (!alive) return socket.terminate();
    alive = false;
    socket.ping();
  }, PING_MS);
  heart.unref();
  const idle = () => stream ?? fail(new ClosedError("STREAM_IDLE", "The socket opened no stream."));
  const opening = setTimeout(idle, idleMs).unref();
  socket.on("pong", () => {
    alive = true;
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    clearInterval(heart);
    clearTimeout(opening);
    stream?.close();
  });
  socket.on("message", (data, binary) => {
    alive = true;
    if (++waiting >= MOST_WAITING) socket.pause();
    work = work
      .then(() => (socket.readyState === socket.OPEN ? answer(parse(String(data), binary)) : undefined))
      .catch(fail)
      .finally(() => {
        if (--waiting < MOST_WAITING) socket.resume();
      });
  });

  async function answer(message: Json): Promise<void> {
    if (message.type === "close") return socket.close(DONE);
    if (message.type === "open" && !stream) {
      stream = open(message);
      // A slot that is taken away, for being idle or at the service's end.
      void stream.closed.then((reason) => ended || fail(reason));
      await send({ type: "opened", id: stream.id });
      return send({ type: "prompt", verdict: await stream.prompt() });
    }
    if (message.type === "push" && stream && !ended)
      return send({ type: "verdicts", ...(await stream.push(message)) });
    if (message.type === "end" && stream && !ended) {
      ended = true;
      const { verdicts, decision } = await stream.end();
      await send({ type: "verdicts", ...verdicts });
      await send({ type: "decision", ...decision });
      return socket.close(DONE);
    }
    const expected = stream
      ? "After open come push, end and close."
      : "The first message is open: {type, messages} or {type, ids}.";
    throw new RequestError(400, "message_invalid", expected);
  }

  function fail(error: unknown): void {
    if (socket.readyState !== socket.OPEN) return;
    const { body } = toRequestError(error);
    socket.send(JSON.stringify({ type: "error", ...body }));
    socket.close(REFUSED, body.error.code.slice(0, 100));
  }

  /** Resolves once the client has room for more. */
  function send(message: Json): Promise<void> {
    return new Promise((resolve) => {
      if (socket.readyState !== socket.OPEN) return resolve();
      const wait = socket.bufferedAmount > MOST_UNREAD;
      socket.send(JSON.stringify(message), () => wait && resolve());
      if (!wait) resolve();
    });
  }
}

/** Ends sockets for the service's end: one whose client does not answer is not waited for. */
export function endSockets(sockets: Iterable<WebSocket>): void {
  for (const socket of sockets) {
    socket.close(GOING_AWAY);
    setTimeout(() => socket.terminate(), GOODBYE_MS).unref();
  }
}

function parse(text: string, binary: boolean): Json {
  try {
    const message: unknown = JSON.parse(text);
    if (!binary && isRecord(message)) return message;
  } catch {
    // Said below.
  }
  throw new RequestError(400, "message_invalid", "A message is a JSON object, as text.");
}

/** The request that asks for a socket; null where its address is none. */
export function requestOf({ url, headers }: IncomingMessage): Request | null {
  const given = Object.entries(headers).filter(([, value]) => typeof value === "string");
  try {
    const address = new URL(url ?? "/", `http://${headers.host ?? "localhost"}`);
    return new Request(address, { headers: given as [string, string][] });
  } catch {
    return null;
  }
}

/** Answers who asked for a socket, and is not let in. */
export async function refuseSocket(socket: Duplex, refusal: Response): Promise<void> {
  const body = await refusal.text();
  const type = refusal.headers.get("content-type") ?? "application/json";
  // Nobody else looks after it any more: a client that keeps it open would have it for ever.
  socket.once("finish", () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${refusal.status} Refused\r\nconnection: close\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
