import { execFile } from "node:child_process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Address of the package's entry, as its users import it. */
export const PACKAGE = pathToFileURL(`${ROOT}/dist/index.js`).href;

/** Address of one of the package's modules, built by itself: the package's own files hold many of them each. */
export function built(module: string): string {
  return pathToFileURL(`${ROOT}/build/${module}`).href;
}

export interface ProgramOptions {
  /** The whole environment but for PATH. */
  env?: Record<string, string>;
  args?: readonly string[];
}

/**
 * Runs an ES module in a process of its own, without what this one has in its environment. Rejects where it ends with
 * anything but 0.
 */
export async function runProgram(source: string, { env, args = [] }: ProgramOptions = {}): Promise<string> {
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", source, "--", ...args], {
    env: { PATH: process.env.PATH, ...env },
  });
  return stdout;
}
