import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test, vi } from "vitest";
import { AnswerState, relay } from "../../../src/gateway/cluster/relay.js";
import { temporaryFolder } from "../../support/temporary-folder.js";

const HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT = 'd\r\ndata: {"a":1}\n\n\r\n';

function after(...said: (string | null)[]): string {
  const state = new AnswerState();
  for (const text of said) {
    if (text === null) state.asked();
    else state.said(Buffer.from(text));
  }
  return state.conclusion().toString();
}

test("an event stream that breaks off between two events ends with an error event", () => {
  const ends = [
    after(null, HEAD + EVENT),
    after(null, HEAD, EVENT),
    after(null, HEAD),
    after(null, ...(HEAD + EVENT).split("")),
  ];
  for (const end of ends) {
    const [, length, body] = /^([0-9a-f]+)\r\n([\s\S]*)\r\n0\r\n\r\n$/.exec(end) ?? [];
    expect(Number.parseInt(length, 16)).toBe(Buffer.byteLength(body));
    const data = JSON.parse(/^event: error\ndata: (.*)\n\n$/.exec(body)?.[1] ?? "");
    expect(data).toMatchObject({ type: "error", code: "worker_lost", error: { code: "worker_lost" } });
  }
});

test("a request that nothing was said to gets a 503", () => {
  const whole = `${HEAD}${EVENT}0\r\n\r\n`;
  const told = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
  const ends = [
    after(null),
    after(null, whole, null),
    after(null, told, null),
    after(null, told.slice(0, -1), "}", null),
    after(null, "HTTP/1.1 100 Continue\r\n\r\n", null, told, null),
    after(null, "HTTP/1.1 204 No Content\r\n\r\n", null),
  ];
  for (const end of ends) {
    const [head, body] = end.split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1\.1 503 /);
    expect(head).toContain(`content-length: ${body.length}`);
    expect(JSON.parse(body)).toMatchObject({ error: { code: "worker_lost" } });
  }
});

test.each([
  ["after a whole answer", [null, `${HEAD}${EVENT}0\r\n\r\n`]],
  ["after an answer without a body", [null, "HTTP/1.1 204 No Content\r\n\r\n"]],
  ["within an event's chunk", [null, HEAD + EVENT.slice(0, -4)]],
  ["within a body that is no event stream", [null, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"]],
  ["within a body whose client asks on", [null, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", null]],
  ["within a chunk whose client asks on", [null, HEAD + EVENT.slice(0, -4), null]],
  ["within a head whose client asks on", [null, "HTTP/1.1 200 OK\r\ncont", null]],
  ["where nobody asked", []],
])("nothing is said %s", (_, said) => {
  expect(after(...said)).toBe("");
});

/** Node's own answer to what is no request. */
const REFUSED = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/** A client of a worker that answers the first request of a connection, and leaves at the second. */
async function asksTwice(leave: (socket: Socket, worker: Server) => void): Promise<string> {
  const path = join(await temporaryFolder(), "1");
  const worker = createServer((socket) => {
    socket.once("data", (asked) => {
      if (!String(asked).startsWith("GET")) return void socket.end(REFUSED);
      socket.write("HTTP/1.1 204 No Content\r\n\r\n");
      socket.once("data", () => leave(socket, worker));
    });
  });
  const pool = createServer({ allowHalfOpen: true }, (socket) => void relay(socket, path));
  await Promise.all([once(worker.listen(path), "listening"), once(pool.listen(0, "127.0.0.1"), "listening")]);
  onTestFinished(() => void [worker, pool].map((server) => server.close()));
  const client = connect((pool.address() as AddressInfo).port, "127.0.0.1");
  const said = text(client);
  client.write("GET /1 HTTP/1.1\r\n\r\n");
  await once(client, "data");
  client.write("GET /2 HTTP/1.1\r\n\r\n");
  return (await said).replace(/^HTTP.*204.*\r\n\r\n/, "");
}

test("a worker that lives and closes a connection it kept open is not lost: that is closed, and nothing said", async () => {
  expect(await asksTwice((socket) => socket.destroy())).toBe("");
});

test.each<[string, (worker: Server) => void]>([
  ["takes no more connections", (worker) => worker.close()],
  [
    "takes them, and says nothing",
    (worker) => void worker.removeAllListeners("connection").on("connection", (socket) => socket.destroy()),
  ],
])("one that %s is", async (_, die) => {
  const said = await asksTwice((socket, worker) => {
    die(worker);
    socket.destroy();
  });
  expect(said).toMatch(/^HTTP\/1\.1 503 [\s\S]*worker_lost/);
});

async function turns(count: number): Promise<string> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
  return "under way";
}

/** Timers of the relay go when a test says so; those of sockets go on. */
function holdTimers(): void {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
}

test("one that takes them and hangs keeps nobody waiting", async () => {
  holdTimers();
  const said = await asksTwice((socket, worker) => {
    worker.removeAllListeners("connection").on("connection", () => vi.advanceTimersByTime(2000));
    socket.destroy();
  });
  expect(said).toMatch(/^HTTP\/1\.1 503 [\s\S]*worker_lost/);
});

test.each([
  ["says nothing more", 0],
  ["goes on sending", 8 << 20],
])("a client that keeps its half of a connection and %s has it for some seconds", async (_, bytes) => {
  holdTimers();
  const path = join(await temporaryFolder(), "1");
  const worker = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(REFUSED, () => socket.destroy()));
  });
  let relayed: Promise<void> | undefined;
  const pool = createServer({ allowHalfOpen: true }, (socket) => {
    relayed = relay(socket, path);
  });
  await Promise.all([once(worker.listen(path), "listening"), once(pool.listen(0, "127.0.0.1"), "listening")]);
  onTestFinished(() => void [worker, pool].map((server) => server.close()));
  const client = connect({
    port: (pool.address() as AddressInfo).port,
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  client.on("error", () => {});
  client.write("POST / HTTP/1.1\r\n\r\n");
  client.resume();
  await once(client, "end");
  client.write(Buffer.alloc(bytes));
  expect(await Promise.race([relayed, turns(50)])).toBe("under way");
  vi.advanceTimersByTime(5000);
  await relayed;
  client.destroy();
});
