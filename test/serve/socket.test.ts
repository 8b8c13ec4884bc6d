import { EventEmitter } from "node:events";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { serveSocket } from "../../src/serve/socket.js";

const PING_MS = 30_000;
const open = () => {
  throw new Error("nobody opens a stream");
};

class FakeSocket extends EventEmitter {
  readonly OPEN = WebSocket.OPEN;
  readyState: number = WebSocket.OPEN;
  readonly ping = vi.fn();
  readonly terminate = vi.fn();
}

describe("a socket's client", () => {
  let socket: FakeSocket;
  beforeEach(() => {
    vi.useFakeTimers();
    socket = new FakeSocket();
    serveSocket(socket as never, open, 10 * PING_MS);
  });
  afterEach(() => {
    socket.emit("close");
    vi.useRealTimers();
  });

  test("that answers pings is kept", () => {
    for (let i = 0; i < 5; i++) {
      vi.advanceTimersByTime(PING_MS);
      socket.emit("pong");
    }
    expect(socket.ping).toHaveBeenCalledTimes(5);
    expect(socket.terminate).not.toHaveBeenCalled();
  });

  test("that has not answered a ping by the next one is gone", () => {
    vi.advanceTimersByTime(PING_MS);
    expect(socket.terminate).not.toHaveBeenCalled();
    vi.advanceTimersByTime(PING_MS);
    expect(socket.terminate).toHaveBeenCalledOnce();
    expect(socket.ping).toHaveBeenCalledOnce();
  });

  test("whose connection fails is gone, and is asked no more", () => {
    socket.emit("error", new Error("ECONNRESET"));
    expect(socket.terminate).toHaveBeenCalledOnce();
    socket.emit("close");
    vi.advanceTimersByTime(5 * PING_MS);
    expect(socket.ping).not.toHaveBeenCalled();
  });
});
