import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { listen } from "../../src/gateway/server.js";

const ASKED = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const WHOLE = /^HTTP\/1\.1 200 [\s\S]*connection: close\r\n[\s\S]*Fine\./i;
const LONG = 600_000;

async function start() {
  const service = { fetch: async () => new Response("Fine."), drain() {}, abort() {} };
  const server = await listen(service, 0, "127.0.0.1");
  onTestFinished(() => server.close(0));
  const port = Number(new URL(server.url).port);
  const open = (count: number) =>
    Promise.all(
      Array.from({ length: count }, async () => {
        const client = connect(port, "127.0.0.1");
        await once(client, "connect");
        return client;
      }),
    );
  return { server, open };
}

async function answered(client: Socket): Promise<Socket> {
  client.write(ASKED);
  await once(client, "data");
  return client;
}

test("a request is answered that comes after the end began, on a connection that was silent till then", async () => {
  const { server, open } = await start();
  const clients = await open(2);
  clients.push(await answered((await open(1))[0]));
  const closed = server.close(LONG);
  const answers = clients.map((client) => text(client.end(ASKED)));
  expect(await Promise.all(answers)).toEqual(Array(3).fill(expect.stringMatching(WHOLE)));
  await closed;
});

test("connections that the system has taken, and Node has not yet, are answered too", async () => {
  const { server, open } = await start();
  const clients = await open(20);
  const closed = server.close(LONG);
  const answers = clients.map((client) => text(client.end(ASKED)));
  expect(await Promise.all(answers)).toEqual(Array(20).fill(expect.stringMatching(WHOLE)));
  await closed;
});

test("who says nothing more holds up no end, whether anything was said before or not", async () => {
  const { server, open } = await start();
  const [silent, told] = await open(2);
  const ends = [silent, await answered(told)].map((client) => once(client.resume(), "close"));
  await server.close(LONG);
  await Promise.all(ends);
});

test("who has begun a request is waited for until it is whole, and no longer than the grace", async () => {
  const { server, open } = await start();
  const [client, other, silent] = await open(3);
  for (const own of [client, other]) own.write(ASKED.slice(0, 20));
  const closed = server.close(LONG);
  await once(silent.resume(), "close");
  expect(await text(client.end(ASKED.slice(20)))).toMatch(WHOLE);
  const ended = once(other.resume(), "close");
  await Promise.all([server.close(0), closed, ended]);
});
