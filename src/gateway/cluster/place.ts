import { basename, join } from "node:path";

/** The environment variable that tells a worker its pool's folder, which is this user's alone. */
export const POOL = "QWEN3GUARD_POOL";

/** Where a worker answers: anybody in the pool can tell by its number. */
export function placeOf(folder: string, worker: number): string {
  return process.platform === "win32"
    ? `\\\\.\\pipe\\${basename(folder)}-${worker}`
    : join(folder, String(worker));
}
