import type { Worker } from "node:cluster";
import { watchFile } from "node:fs";
import type { FromWorker } from "../gateway/cluster/messages.js";
import { nodeCluster } from "./cluster.js";
import { readJsonFile } from "./json-file.js";

const HINT = '{"policies": [{"name": "…", "when": {"model": "…"}, "policy": {…}}]}';
/** Milliseconds between two looks at the file. */
const INTERVAL = 2000;

/** @throws {InputError} POLICY_UNREADABLE, POLICY_INVALID */
export function readPolicies(file: string): Promise<unknown> {
  return readJsonFile(file, "POLICY", HINT);
}

/**
 * Reads the file again when it has changed and at SIGHUP. What cannot be used is told on standard error, and the policies
 * stay as they were.
 */
export function keepPolicies(file: string, use: (policies: unknown) => void): void {
  const reload = () => {
    readPolicies(file)
      .then(use)
      .then(
        () => tell({ code: "policies_read", message: "The policies were read again." }),
        ({ code, message }) => tell({ code, message: `The policies stay as they were. ${message}` }),
      );
  };
  watchFile(file, { interval: INTERVAL, persistent: false }, ({ mtimeMs }, before) => {
    // A file that is not there for a moment is about to be replaced.
    if (mtimeMs !== 0 && mtimeMs !== before.mtimeMs) reload();
  });
  process.on("SIGHUP", reload);
}

/**
 * From now on SIGHUP ends nothing: before files have been read for the first time there is nothing to read again. Those of
 * workers are their own to read: it goes on to all that hear it. It would end others, which have yet to read theirs.
 */
export function heedHangup(): void {
  const cluster = nodeCluster();
  const hearing = new Set<Worker>();
  cluster.on("message", (worker, { kind }: FromWorker) => {
    if (kind === "started") hearing.add(worker);
  });
  cluster.on("exit", (worker) => hearing.delete(worker));
  process.on("SIGHUP", () => {
    for (const worker of hearing) worker.process.kill("SIGHUP");
  });
}

/** Beside the log's entries, in their form. */
function tell(event: { code: string; message: string }): void {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
}
