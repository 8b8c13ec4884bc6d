import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { GuardProxy } from "../../src/gateway/proxy.js";
import { listen } from "../../src/gateway/server.js";
import { Upstream } from "../../src/gateway/upstream.js";
import { scriptedGuard } from "../gate/scripted.js";

const TOLD = JSON.stringify({ error: { message: "Wrong key." } });
const REFUSAL = `HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: ${TOLD.length}\r\n\r\n${TOLD}`;
const CHUNK = Buffer.alloc(2 ** 16);
const CHUNKS = 320;
/** Bytes of an upload that an API takes before it has seen enough. */
const TAKEN = 3e6;

/** An API that has seen enough before an upload is over. */
async function api(end: (connection: Socket) => void): Promise<string> {
  const server = createServer((connection) => {
    let taken = 0;
    connection.on("error", () => {});
    connection.on("data", ({ length }) => {
      taken += length;
      if (taken < TAKEN) return;
      connection.removeAllListeners("data").pause();
      end(connection);
    });
  });
  onTestFinished(() => void server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const resets = (connection: Socket) => void connection.resetAndDestroy();
const refuses = (connection: Socket) => void connection.write(REFUSAL, () => resets(connection));

function upload(): ReadableStream<Uint8Array> {
  let left = CHUNKS;
  return new ReadableStream({
    pull: (controller) => (left-- > 0 ? controller.enqueue(new Uint8Array(CHUNK)) : controller.close()),
  });
}

describe("an API that resets the connection while it is still being sent", () => {
  test.each([
    ["a stream", upload],
    ["a text", () => "x".repeat(CHUNKS * CHUNK.length)],
  ])("%s is heard where it has answered", async (_, body) => {
    const upstream = new Upstream(await api(refuses));
    const { signal } = new AbortController();
    const send = () =>
      upstream.send("/v1/files", { method: "POST", headers: new Headers(), body: body(), signal });
    for (let i = 0; i < 5; i++) {
      const answer = await send();
      expect(answer.status).toBe(401);
      expect(await answer.text()).toBe(TOLD);
    }
  });

  test("has failed where it has not", async () => {
    const upstream = new Upstream(await api(resets));
    const { signal } = new AbortController();
    const sent = upstream.send("/v1/files", {
      method: "POST",
      headers: new Headers(),
      body: upload(),
      signal,
    });
    await expect(sent).rejects.toMatchObject({ code: "upstream_unreachable" });
  });

  test("an upload has its answer with a client that goes on sending", async () => {
    const { guard } = scriptedGuard();
    const proxy = new GuardProxy(guard, { upstream: await api(refuses), otherPaths: "pass", maxBody: 1e9 });
    const server = await listen(proxy, 0, "127.0.0.1");
    onTestFinished(() => server.close(0));
    const client = connect(Number(new URL(server.url).port), "127.0.0.1");
    const errors: Error[] = [];
    client.on("error", (error) => errors.push(error));
    let said = "";
    client.on("data", (bytes) => {
      said += bytes;
    });
    const length = CHUNKS * CHUNK.length;
    client.write(`POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n\r\n`);
    const sent = Array.from(
      { length: CHUNKS },
      () => new Promise<void>((resolve) => client.write(CHUNK, () => resolve())),
    );
    await Promise.all(sent);
    await once(client, "close");
    expect(errors).toEqual([]);
    expect(said).toMatch(/^HTTP\/1\.1 401 [\s\S]*connection: close\r\n[\s\S]*Wrong key\./i);
  });
});
