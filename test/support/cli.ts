import { spawn } from "node:child_process";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { vi } from "vitest";
import { run } from "../../src/cli/program.js";

/** The built program: it starts four times as fast as its sources. */
export const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

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

/** What a command that is stopped listens to. */
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Runs `qwen3guard` in this process, which takes a fraction of the time; how a process ends is for `runCli`. */
export async function runHere(
  args: string[],
  env: Record<string, string> = {},
  input: string | Readable = "",
): Promise<Outcome> {
  const outcome: Outcome = { code: 0, stdout: "", stderr: "" };
  const before = process.exitCode;
  const listeners = SIGNALS.map((signal) => process.listeners(signal));
  for (const [name, value] of Object.entries({ NO_COLOR: "1", ...env })) vi.stubEnv(name, value);
  const streams = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((chunk) => {
      outcome[name] += chunk;
      return true;
    }),
  );
  const stdin = vi
    .spyOn(process, "stdin", "get")
    .mockReturnValue((typeof input === "string" ? Readable.from([Buffer.from(input)]) : input) as never);
  try {
    process.exitCode = undefined;
    await run(args);
    outcome.code = Number(process.exitCode ?? 0);
    return outcome;
  } finally {
    process.exitCode = before;
    for (const spy of [...streams, stdin]) spy.mockRestore();
    for (const [i, signal] of SIGNALS.entries()) {
      for (const listener of process.listeners(signal)) {
        if (!listeners[i].includes(listener)) process.off(signal, listener);
      }
    }
    vi.unstubAllEnvs();
  }
}

/** A standard input that fails behind a text. */
export function breakingOff(text: string): Readable {
  return Readable.from(
    (async function* () {
      yield Buffer.from(text);
      throw Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
    })(),
  );
}

/** Runs `qwen3guard` in a process of its own. */
export async function runCli(args: string[], options: RunOptions = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...args], {
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
