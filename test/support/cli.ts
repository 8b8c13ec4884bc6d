import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

export interface Outcome {
  /** Exit code, or null where a signal ended the process. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  /** What arrives on standard input, piece by piece; it stays open while pieces come. */
  input?: string | AsyncIterable<string>;
  env?: Record<string, string>;
  /** Called once output appears. */
  onOutput?: (child: ReturnType<typeof spawn>) => void;
}

/** Runs `qwen3guard` from its sources in a process of its own. */
export async function runCli(args: string[], options: RunOptions = {}): Promise<Outcome> {
  const child = spawn(process.execPath, ["--import", "tsx", MAIN, ...args], {
    env: { ...process.env, NO_COLOR: "1", ...options.env },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
    options.onOutput?.(child);
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  // The process may end before it has read everything.
  child.stdin.on("error", () => {});
  const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
  const { input = "" } = options;
  if (typeof input === "string") child.stdin.end(input);
  else {
    for await (const piece of input) child.stdin.write(piece);
    child.stdin.end();
  }
  return { code: await closed, stdout, stderr };
}
