import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test, vi } from "vitest";
import { Member } from "../../../src/gateway/cluster/member.js";
import { WorkerPool } from "../../../src/gateway/cluster/worker-pool.js";
import { freePort } from "../../support/free-port.js";

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const mkdtemp = async (prefix: string) => {
    await sleep(300);
    return real.mkdtemp(prefix);
  };
  return { ...real, mkdtemp };
});

test("a connection that comes as soon as the pool listens is the pool's, however long its folder takes", async () => {
  const port = await freePort();
  const listening = WorkerPool.listen({ workers: 2, port, host: "127.0.0.1", log: () => {} });
  const client = await connected(port);
  const pool = await listening;
  const closed = once(client, "close");
  client.resume();
  await pool.close(0);
  await closed;
  expect(client.destroyed).toBe(true);
});

const WORKER = fileURLToPath(new URL("../../support/pool-worker.mjs", import.meta.url));

test("a worker that hears nothing any more is killed, once, and replaced", async () => {
  cluster.setupPrimary({ exec: WORKER });
  const events: string[] = [];
  const log = (line: string) => void events.push(JSON.parse(line).event);
  const pool = await WorkerPool.listen({ workers: 1, port: 0, host: "127.0.0.1", log, pulse: 5 });
  await pool.start();
  await expect.poll(() => events).toContain("worker_started");
  await pool.close(0, 10);
  expect(events.slice(0, 3)).toEqual(["worker_hangs", "worker_lost", "worker_started"]);
});

test("only what a worker has not answered since it last said anything counts against it", () => {
  const told: unknown[] = [];
  const worker = { isConnected: () => true, send: (message: unknown) => void told.push(message) };
  const member = new Member(worker as never);
  expect([member.feel(), member.feel(), member.feel()]).toEqual([0, 1, 2]);
  member.heard();
  expect([member.feel(), member.feel()]).toEqual([0, 1]);
  expect(told).toEqual(Array(5).fill({ kind: "pulse" }));
});

test("a worker that hangs is killed once its time is over", async () => {
  cluster.setupPrimary({ exec: WORKER });
  const pool = await WorkerPool.listen({ workers: 2, port: 0, host: "127.0.0.1", log: () => {} });
  await pool.start();
  const ends = Object.values(cluster.workers ?? {}).map((worker) => once(worker as Worker, "exit"));
  expect(ends).toHaveLength(2);
  await pool.close(10, 10);
  expect(await Promise.all(ends)).toEqual([
    [null, "SIGKILL"],
    [null, "SIGKILL"],
  ]);
});

async function connected(port: number) {
  for (;;) {
    const client = connect(port, "127.0.0.1");
    client.on("error", () => {});
    const is = await once(client, "connect").then(
      () => true,
      () => false,
    );
    if (is) return client;
    await sleep(5);
  }
}
