import { connect, type Socket } from "node:net";
import { destroyLate } from "../destroy-late.js";
import { LOST } from "./lost.js";
import { SocketFrames } from "./socket-frames.js";

/** Bytes at the end of what was sent that tell where in an answer it stopped. */
const TAIL = 5;
const LAST_CHUNK = Buffer.from("0\r\n\r\n");
/** Milliseconds for a worker to show that it lives. */
const PATIENCE = 2000;
/** Milliseconds for a client to close its half once nothing more is said to it. */
const FAREWELL = 5000;

/**
 * Passes a client's bytes to a worker and the worker's back, until either ends. Where a worker's end cuts an answer short,
 * its client is told: an event stream ends with an error event, a WebSocket with an error message, a request that nothing
 * was said to yet gets a 503, and all else breaks off, which every client takes for the failure that it is.
 */
export function relay(client: Socket, path: string): Promise<void> {
  const worker = connect({ path, allowHalfOpen: true });
  const answer = new AnswerState();
  client.on("data", () => answer.asked());
  worker.on("data", (bytes: Buffer) => answer.said(bytes));
  client.pipe(worker);
  worker.pipe(client, { end: false });
  worker.on("error", () => {});
  client.on("error", () => {});
  client.on("close", () => worker.destroy());
  let over = false;
  // A worker that dies closes no more than its own half.
  for (const event of ["end", "close"]) {
    worker.once(event, () => {
      if (!over) void conclude(client, path, answer);
      over = true;
      client.unpipe(worker);
      worker.destroy();
    });
  }
  return new Promise((resolve) => client.once("close", () => resolve()));
}

/**
 * A worker that lives has closed a connection that it kept open and was idle, while a request was on its way: as any server
 * may, which says nothing then, and clients know what to make of that. Nothing of it was lost with the worker.
 */
async function conclude(client: Socket, path: string, answer: AnswerState): Promise<void> {
  if (answer.mayHaveBeenIdle && (await answers(path))) client.destroy();
  else if (client.writable) client.end(answer.conclusion(), () => takeLeave(client));
}

/** Drops what a client still says. One that never closes its half would keep the connection for ever. */
function takeLeave(client: Socket): void {
  destroyLate(client, FAREWELL);
  client.resume();
}

/**
 * Whether somebody answers there, within a time: a worker may hang. Of a process that is ending the system may go on to take
 * connections for a moment.
 */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    const timer = setTimeout(() => probe.destroy(), PATIENCE);
    probe.on("error", () => {});
    probe.once("close", () => {
      clearTimeout(timer);
      resolve(false);
    });
    probe.once("data", () => {
      resolve(true);
      probe.destroy();
    });
    // What is no request, Node's parser refuses by itself: nobody counts it.
    probe.write("?\r\n\r\n");
  });
}

/** Follows an HTTP/1.1 connection just so far as to know how to end it when nobody answers any more. */
export class AnswerState {
  #tail = Buffer.alloc(0);
  /** Whether the last that was said is the head of an event stream. */
  #streamOpens = false;
  /** Whether the client has said something since. */
  #pending = false;
  #answered = false;
  /** Bytes of the answer that are to come; Infinity where its end tells itself, or nothing is known. */
  #left = 0;
  /** Once the connection is a WebSocket. */
  #frames: SocketFrames | null = null;

  /** Whether nothing was said to what came behind an answer. */
  get mayHaveBeenIdle(): boolean {
    return this.#pending && this.#answered && this.#frames === null;
  }

  asked(): void {
    this.#pending = true;
  }

  said(bytes: Buffer): void {
    if (this.#frames) {
      this.#frames.said(bytes);
      return;
    }
    if (startsWith(bytes, "HTTP/1.1 101")) {
      this.#frames = new SocketFrames(bytes);
      return;
    }
    this.#pending = false;
    this.#answered = true;
    this.#left = (this.#left > 0 ? this.#left : answerLength(bytes)) - bytes.length;
    this.#tail = Buffer.concat([this.#tail, bytes.subarray(-TAIL)]).subarray(-TAIL);
    if (this.#left === Number.POSITIVE_INFINITY && this.#tail.equals(LAST_CHUNK)) this.#left = 0;
    this.#streamOpens = isStreamHead(bytes);
  }

  /** What is left to say to a client whose worker is gone; nothing where its answers were whole, or cannot be mended. */
  conclusion(): Buffer {
    if (this.#frames) return this.#frames.conclusion();
    // Between two events of a body in chunks: the last one ended, and so did its chunk.
    if (this.#streamOpens || this.#tail.subarray(-4).equals(Buffer.from("\n\n\r\n"))) {
      // Clients of chat completions look for `error`, those of responses for the event's type.
      const { code, message } = LOST;
      const data = JSON.stringify({ type: "error", code, message, error: LOST });
      const event = `event: error\ndata: ${data}\n\n`;
      return Buffer.from(`${Buffer.byteLength(event).toString(16)}\r\n${event}\r\n0\r\n\r\n`);
    }
    // Within an answer, a request that came meanwhile cannot have one of its own.
    if (!this.#pending || this.#left > 0) return Buffer.alloc(0);
    const body = JSON.stringify({ error: LOST });
    const head = [
      "HTTP/1.1 503 Service Unavailable",
      "content-type: application/json",
      `content-length: ${Buffer.byteLength(body)}`,
      "retry-after: 1",
      "connection: close",
    ];
    return Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
  }
}

/** Bytes of an answer that begins so, its head among them; Infinity where its head does not say. */
function answerLength(bytes: Buffer): number {
  const end = bytes.indexOf("\r\n\r\n");
  if (end === -1 || !startsWith(bytes, "HTTP/1.1 ")) return Number.POSITIVE_INFINITY;
  const head = bytes.toString("latin1", 0, end).toLowerCase();
  const body = /^http\/1\.1 (1|204|304)/.test(head) ? 0 : /\r\ncontent-length: *(\d+)/.exec(head)?.[1];
  return body === undefined ? Number.POSITIVE_INFINITY : end + 4 + Number(body);
}

function isStreamHead(bytes: Buffer): boolean {
  if (bytes.length > 16_384 || !startsWith(bytes, "HTTP/1.1 200")) return false;
  const head = bytes.toString("latin1").toLowerCase();
  const isWhole = head.indexOf("\r\n\r\n") === head.length - 4;
  return isWhole && head.includes("text/event-stream") && head.includes("transfer-encoding: chunked");
}

function startsWith(bytes: Buffer, text: string): boolean {
  return bytes.toString("latin1", 0, text.length) === text;
}
