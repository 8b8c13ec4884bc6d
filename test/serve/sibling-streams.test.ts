import { once } from "node:events";
import { Socket } from "node:net";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, expect, test, vi } from "vitest";
import { SiblingStreams } from "../../src/serve/sibling-streams.js";
import { temporaryFolder } from "../support/temporary-folder.js";

const PATH = "/v1/streams/1-00000000-0000-0000-0000-000000000000/end";
const OWN = { fetch: () => new Response("own"), drain() {}, abort() {} };
const [ANSWERED, CLOSED] = [0, 1];

/** Answers at once, and says so to a thread that is held up. */
const HOLDER = `
  const { parentPort, workerData: { path, told } } = require("node:worker_threads");
  const tell = (what) => { Atomics.store(told, what, 1); Atomics.notify(told, what); };
  const server = require("node:http").createServer((request, response) => {
    request.socket.once("close", () => tell(${CLOSED}));
    request.once("data", () => response.end("held", () => tell(${ANSWERED})));
  });
  server.listen(path, () => parentPort.postMessage("listens"));
`;

let holder: Worker | undefined;
afterEach(async () => {
  vi.restoreAllMocks();
  await holder?.terminate();
});

test("an answer that is there before the last write of a request reaches the client, and the connection ends with it", async () => {
  const path = join(await temporaryFolder(), "holder");
  const told = new Int32Array(new SharedArrayBuffer(8));
  holder = new Worker(HOLDER, { eval: true, workerData: { path, told } });
  await once(holder, "message");
  const heldUp: string[] = [];
  const write = Socket.prototype._write;
  // Behind the body Node writes nothing at all, to hear when all is written: as if the process had been held up before that.
  vi.spyOn(Socket.prototype, "_write").mockImplementation(function (this: Socket, chunk, encoding, done) {
    if (chunk.length === 0) {
      heldUp.push(Atomics.wait(told, ANSWERED, 0, 10_000));
      Atomics.wait(told, CLOSED, 0, 200);
    }
    write.call(this, chunk, encoding, done);
  });
  const headers = { "content-type": "application/json", "content-length": "2" };
  const request = new Request(`http://h${PATH}`, { method: "POST", headers, body: "{}" });
  const answer = await new SiblingStreams(OWN, 2, () => path).fetch(request);
  // It was there already, or came in time.
  expect(heldUp).toEqual([expect.stringMatching(/^(not-equal|ok)$/)]);
  expect({ status: answer.status, text: await answer.text() }).toEqual({ status: 200, text: "held" });
  await expect.poll(() => Atomics.load(told, CLOSED)).toBe(1);
});
