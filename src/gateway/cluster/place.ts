import { basename, join } from "node:path";
import { InputError } from "../../errors.js";

/** The environment variable that tells a worker its pool's folder, which is this user's alone. */
export const POOL = "QWEN3GUARD_POOL";

/** Bytes of a socket's path on macOS; Linux takes 107. Of a longer one Node 20 takes the beginning, without a word. */
const LONGEST_PATH = 103;
const LAST_WORKER = 999_999_999;

/** Where a worker answers: anybody in the pool can tell by its number. */
export function placeOf(folder: string, worker: number): string {
  return process.platform === "win32"
    ? `\\\\.\\pipe\\${basename(folder)}-${worker}`
    : join(folder, String(worker));
}

/** @throws {InputError} SOCKET_PATH_TOO_LONG: workers have no place in it */
export function requirePlaces(folder: string): void {
  const bytes = Buffer.byteLength(placeOf(folder, LAST_WORKER));
  if (process.platform === "win32" || bytes <= LONGEST_PATH) return;
  const message =
    `Workers answer at sockets in the folder for temporary files, and ${folder} is ${bytes - LONGEST_PATH} bytes too long ` +
    "for that. Set TMPDIR to a folder with a shorter path.";
  throw new InputError("SOCKET_PATH_TOO_LONG", message);
}
