import cluster from "node:cluster";
import { watchFile } from "node:fs";
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

/** The workers' files are their own to read: SIGHUP reaches the process that started them. */
export function passOnHangup(): void {
  process.on("SIGHUP", () => {
    for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill("SIGHUP");
  });
}

/** Beside the log's entries, in their form. */
function tell(event: { code: string; message: string }): void {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
}
