import cluster from "node:cluster";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Registry } from "prom-client";
import { listenAt, type Service } from "../server.js";
import type { FromWorker, ToWorker } from "./messages.js";

/** Whether this process was started by a `WorkerPool`. */
export const isWorker = cluster.isWorker;

const scrapes = new Map<number, (text: string) => void>();

/** The metrics of all workers together, for one of them that is asked. */
export function pooledMetrics(): Promise<string> {
  const id = scrapes.size === 0 ? 1 : Math.max(...scrapes.keys()) + 1;
  tell({ kind: "scrape", id });
  return new Promise((resolve) => scrapes.set(id, resolve));
}

/**
 * Answers the requests that the pool passes on, until it says to stop. Signals are for the pool alone: Ctrl-C reaches all
 * processes of a terminal.
 */
export async function serveInPool(service: Service, registry: Registry): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {});
  const folder = await mkdtemp(join(tmpdir(), "qwen3guard-"));
  // Of this user alone, as the folder is.
  const path = process.platform === "win32" ? `\\\\.\\pipe\\qwen3guard-${process.pid}` : join(folder, "http");
  try {
    const server = await listenAt(service, { path, exclusive: true });
    const closed = new Promise<void>((resolve, reject) => {
      const close = (graceMs: number) => server.close(graceMs).then(resolve, reject);
      // Nobody is left to pass anything on.
      process.once("disconnect", () => close(0));
      process.on("message", (message: ToWorker) => {
        if (message.kind === "close") close(message.graceMs);
        else if (message.kind === "scraped") scraped(message);
        else
          void registry.getMetricsAsJSON().then((metrics) => tell({ ...message, kind: "metrics", metrics }));
      });
    });
    tell({ kind: "ready", path });
    await closed;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function scraped({ id, text }: { id: number; text: string }): void {
  scrapes.get(id)?.(text);
  scrapes.delete(id);
}

function tell(message: FromWorker): void {
  // The pool may have died meanwhile.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}
