import { LOST } from "./lost.js";

const [TEXT, CLOSE] = [0x1, 0x8];
const FIN = 0x80;
/** RFC 6455: something unexpected keeps the server from going on. */
const UNEXPECTED = 1011;

/** Follows what a server says over a WebSocket (RFC 6455) just so far as to know where another frame may begin. */
export class SocketFrames {
  #head: number[] = [];
  /** Bytes of the frame under way that are to come. */
  #left = 0;
  #withinMessage = false;
  #closed = false;

  /** @param opening the bytes that the server answered the upgrade with, and what came with them */
  constructor(opening: Buffer) {
    const end = opening.indexOf("\r\n\r\n");
    // Of an answer in pieces nothing more is known than that: it breaks off like any other.
    if (end === -1) this.#closed = true;
    else this.said(opening.subarray(end + 4));
  }

  said(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const skipped = Math.min(this.#left, bytes.length - at);
      this.#left -= skipped;
      at += skipped;
      if (at < bytes.length) this.#begin(bytes[at++]);
    }
  }

  #begin(byte: number): void {
    this.#head.push(byte);
    const length = payloadLength(this.#head);
    if (length === null) return;
    const opcode = this.#head[0] & 0xf;
    if (opcode === CLOSE) this.#closed = true;
    // Control frames may stand within a message, and are whole.
    if (opcode < CLOSE) this.#withinMessage = (this.#head[0] & FIN) === 0;
    this.#head = [];
    this.#left = length;
  }

  /** What is left to say to a client whose worker is gone: an error message, and the end. */
  conclusion(): Buffer {
    if (this.#closed || this.#left > 0 || this.#head.length > 0) return Buffer.alloc(0);
    const message = Buffer.from(JSON.stringify({ type: "error", error: LOST }));
    const close = Buffer.concat([Buffer.from([UNEXPECTED >> 8, UNEXPECTED & 0xff]), Buffer.from(LOST.code)]);
    return Buffer.concat([
      ...(this.#withinMessage
        ? []
        : [Buffer.from([FIN | TEXT, 126, message.length >> 8, message.length & 0xff]), message]),
      Buffer.from([FIN | CLOSE, close.length]),
      close,
    ]);
  }
}

/** Of a frame whose head is whole; else null. A server's frames have no mask. */
function payloadLength([, length, ...extended]: number[]): number | null {
  const more = length === 127 ? 8 : length === 126 ? 2 : 0;
  if (length === undefined || extended.length < more) return null;
  return more === 0 ? length & 0x7f : extended.reduce((sum, byte) => 256 * sum + byte, 0);
}
