import { spawnSync } from "node:child_process";

/** What a contender measured, or what it failed of, its own check of what it computes among it. */
export type Contended<T> = { result: T } | { failed: string };

/**
 * Runs a contender in a process of its own, so that no one's threads or memory are in another's way, and that one which
 * fails is left out and the others' results stay. It prints RESULT and a JSON object.
 */
export function contend<T>(command: string, args: string[], input?: string): Contended<T> {
  const { stdout, stderr, status, error } = spawnSync(command, args, {
    encoding: "utf8",
    input,
    stdio: ["pipe", "pipe", "pipe"],
    maxBuffer: 2 ** 28,
  });
  process.stderr.write(stderr ?? "");
  const result = /^RESULT (.*)$/m.exec(stdout ?? "");
  if (status === 0 && result) return { result: JSON.parse(result[1]) };
  const said = (stderr ?? "").trim().split("\n").at(-1);
  return { failed: error?.message ?? (said || `it ended with status ${status} and no result`) };
}
