import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { AnswerState } from "../../../src/gateway/cluster/relay.js";

/** What a real server says over a socket, until it is cut. */
async function spoken(say: (socket: WebSocket) => void): Promise<Buffer> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false });
  await once(server, "listening");
  server.on("connection", say);
  const { port } = server.address() as AddressInfo;
  const client = connect(port, "127.0.0.1");
  client.write(
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  const parts: Buffer[] = [];
  client.on("data", (part) => parts.push(part));
  await once(client, "close");
  server.close();
  return Buffer.concat(parts);
}

/** What a real client hears of these bytes, before they end. */
async function heard(bytes: Buffer): Promise<{ messages: string[]; code: number }> {
  const head = bytes.indexOf("\r\n\r\n") + 4;
  const server = createServer((socket: Socket) => {
    socket.on("error", () => {});
    socket.once("data", (asked) => {
      const key = /Sec-WebSocket-Key: (.*)\r/i.exec(String(asked))?.[1] as string;
      socket.write(acceptance(key));
      socket.end(bytes.subarray(head));
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const messages: string[] = [];
  client.on("message", (data) => messages.push(String(data)));
  client.on("error", () => {});
  const [code] = await once(client, "close");
  server.close();
  return { messages, code };
}

function acceptance(key: string): string {
  const { createHash } = process.getBuiltinModule("node:crypto");
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`;
}

function conclusionAfter(parts: Buffer[]): Buffer {
  const state = new AnswerState();
  state.asked();
  for (const part of parts) {
    state.said(part);
    state.asked();
  }
  return state.conclusion();
}

const TEXTS = ["a", "b".repeat(125), "c".repeat(126), "d".repeat(70_000), ""];

test("a WebSocket that breaks off between two messages ends with an error message and 1011, however its bytes came", async () => {
  const said = await spoken((socket) => {
    for (const text of TEXTS) socket.send(text);
    socket.ping();
    setImmediate(() => socket.terminate());
  });
  const head = said.indexOf("\r\n\r\n") + 4;
  const end = conclusionAfter([said]);
  const { messages, code } = await heard(Buffer.concat([said, end]));
  expect(code).toBe(1011);
  expect(messages.slice(0, -1)).toEqual(TEXTS);
  expect(JSON.parse(messages.at(-1) as string)).toMatchObject({
    type: "error",
    error: { code: "worker_lost" },
  });

  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: head, max: said.length - 1 }), { maxLength: 20 }),
      (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), said.length];
        const parts = at.slice(1).map((to, i) => said.subarray(at[i], to));
        expect(conclusionAfter(parts).equals(end)).toBe(true);
      },
    ),
    { numRuns: 50 },
  );
});

test("between the parts of a message an error cannot be said, but the end can", async () => {
  const said = await spoken((socket) => {
    socket.send("whole");
    socket.send("half", { fin: false });
    setImmediate(() => socket.terminate());
  });
  const { messages, code } = await heard(Buffer.concat([said, conclusionAfter([said])]));
  expect(messages).toEqual(["whole"]);
  expect(code).toBe(1011);
});

test("nothing is said within a frame, after the end, or where the upgrade's answer came in pieces", async () => {
  const said = await spoken((socket) => {
    socket.send("hello");
    socket.close(1000);
    setImmediate(() => socket.terminate());
  });
  const head = said.indexOf("\r\n\r\n") + 4;
  const first = said.subarray(0, head + 2 + "hello".length);
  expect(conclusionAfter([first]).length).toBeGreaterThan(0);
  for (const parts of [
    [first.subarray(0, -1)],
    [said.subarray(0, head + 1)],
    [said],
    [said.subarray(0, 40), said.subarray(40)],
  ]) {
    expect(conclusionAfter(parts).length).toBe(0);
  }
});
