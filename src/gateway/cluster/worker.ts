import cluster from "node:cluster";
import { rmSync } from "node:fs";
import type { Registry } from "prom-client";
import { type Listening, listenAt, type Service } from "../server.js";
import type { FromWorker, Question, ToWorker } from "./messages.js";
import { POOL, placeOf } from "./place.js";

/** Whether this process was started by a `WorkerPool`. */
export const isWorker = cluster.isWorker;

/** This worker's number, which no other of its pool ever has; 0 where there is no pool. */
export const workerNumber = cluster.worker?.id ?? 0;

const asked = new Map<number, (answer: never) => void>();
let questions = 0;

/** The metrics of all workers together, for one of them that is asked. */
export function pooledMetrics(): Promise<string> {
  return ask<string>({ about: "metrics" });
}

/** Whether a client may ask once more, by what it has asked of all workers. */
export function pooledRate(client: string): Promise<boolean> {
  return ask<boolean>({ about: "rate", client });
}

/** Where another worker of this pool answers, or did. */
export function siblingAt(worker: number): string {
  return placeOf(process.env[POOL] as string, worker);
}

/**
 * Answers the requests that the pool passes on.
 *
 * @param close waits until the pool says to stop, and closes
 */
export async function serveInPool(
  service: Service,
  registry: Registry,
  close: (server: Listening) => Promise<void>,
): Promise<void> {
  // Where the pool died, Node ends its workers at once, and nobody else is left to tidy up.
  process.once("exit", () => {
    if (!process.connected) rmSync(process.env[POOL] as string, { recursive: true, force: true });
  });
  const server = await listenAt(service, { path: siblingAt(workerNumber), exclusive: true });
  process.on("message", (message: ToWorker) => {
    if (message.kind === "answer") answered(message);
    else if (message.kind === "pulse") tell(message);
    else if (message.kind === "collect") {
      void registry.getMetricsAsJSON().then((metrics) => tell({ ...message, kind: "metrics", metrics }));
    }
  });
  tell({ kind: "ready" });
  await close(server);
}

function ask<A>(question: Question): Promise<A> {
  const id = ++questions;
  tell({ kind: "ask", id, question });
  return new Promise<A>((resolve) => asked.set(id, resolve));
}

function answered({ id, answer }: { id: number; answer: string | boolean }): void {
  asked.get(id)?.(answer as never);
  asked.delete(id);
}

function tell(message: FromWorker): void {
  // The pool may have died meanwhile.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}
