import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { ClosedError } from "../errors.js";
import { RequestError, toRequestError } from "../gateway/api-error.js";
import { isRecord, type Json } from "../validation/json.js";
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
  const talk = new Talk(socket, open);
  const beat = setInterval(() => talk.beat(), PING_MS).unref();
  const opening = setTimeout(() => talk.requireOpened(), idleMs).unref();
  socket.on("pong", () => talk.hear());
  socket.on("message", (data, binary) => talk.take(String(data), binary));
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    clearInterval(beat);
    clearTimeout(opening);
    talk.end();
  });
}

/** What a client and its stream say to each other. */
class Talk {
  readonly #socket: WebSocket;
  readonly #open: (body: Json) => TokenStream;
  #stream: TokenStream | null = null;
  /** The client has said `end`. */
  #ending = false;
  #waiting = 0;
  #work = Promise.resolve();
  #alive = true;

  constructor(socket: WebSocket, open: (body: Json) => TokenStream) {
    this.#socket = socket;
    this.#open = open;
  }

  /** Asks whether the client is still there. */
  beat(): void {
    if (!this.#alive) this.#socket.terminate();
    else this.#socket.ping();
    this.#alive = false;
  }

  hear(): void {
    this.#alive = true;
  }

  requireOpened(): void {
    if (!this.#stream) this.#fail(new ClosedError("STREAM_IDLE", "The socket opened no stream."));
  }

  end(): void {
    this.#stream?.close();
  }

  /** Answers a message once those before it are answered. */
  take(text: string, binary: boolean): void {
    this.hear();
    if (++this.#waiting >= MOST_WAITING) this.#socket.pause();
    this.#work = this.#work
      .then(() => (this.#isOpen ? this.#answer(parse(text, binary)) : undefined))
      .catch((error) => this.#fail(error))
      .finally(() => {
        if (--this.#waiting < MOST_WAITING) this.#socket.resume();
      });
  }

  async #answer(message: Json): Promise<void> {
    const stream = this.#stream;
    if (message.type === "close") return this.#socket.close(DONE);
    if (message.type === "open" && !stream) return this.#begin(message);
    if (message.type === "push" && stream && !this.#ending) {
      return this.#send({ type: "verdicts", ...(await stream.push(message)) });
    }
    if (message.type === "end" && stream && !this.#ending) return this.#finish(stream);
    const expected = stream
      ? "After open come push, end and close."
      : "The first message is open: {type, messages} or {type, ids}.";
    throw new RequestError(400, "message_invalid", expected);
  }

  async #begin(message: Json): Promise<void> {
    const stream = this.#open(message);
    this.#stream = stream;
    // A slot that is taken away, for being idle or at the service's end.
    void stream.closed.then((reason) => this.#ending || this.#fail(reason));
    await this.#send({ type: "opened", id: stream.id });
    return this.#send({ type: "prompt", verdict: await stream.prompt() });
  }

  async #finish(stream: TokenStream): Promise<void> {
    this.#ending = true;
    const { verdicts, decision } = await stream.end();
    await this.#send({ type: "verdicts", ...verdicts });
    await this.#send({ type: "decision", ...decision });
    this.#socket.close(DONE);
  }

  get #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  #fail(error: unknown): void {
    if (!this.#isOpen) return;
    const { body } = toRequestError(error);
    this.#socket.send(JSON.stringify({ type: "error", ...body }));
    this.#socket.close(REFUSED, body.error.code.slice(0, 100));
  }

  /** Resolves once the client has room for more. */
  #send(message: Json): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#isOpen) return resolve();
      const wait = this.#socket.bufferedAmount > MOST_UNREAD;
      this.#socket.send(JSON.stringify(message), () => wait && resolve());
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
