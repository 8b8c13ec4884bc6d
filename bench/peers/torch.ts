import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Summary } from "../stats.js";

export interface TorchOptions {
  mode: string;
  device: string;
  contexts: number[];
  /** For the steps at one context. */
  budgetMs: number;
  /** For all of it: contexts that no longer fit are left out. */
  limitMs: number;
  threads: number;
}

/** Runs bench/peers/torch_guard.py, which says how it was computed beside the times. @throws {Error} without PyTorch */
export function torchGuard(python: string, options: TorchOptions) {
  const script = fileURLToPath(new URL("torch_guard.py", import.meta.url));
  const { stdout, status } = spawnSync(python, [script, JSON.stringify(options)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  const result = /^RESULT (.*)$/m.exec(stdout ?? "");
  if (status !== 0 || !result) throw new Error(`${python} ${script} failed; its output is above.`);
  return JSON.parse(result[1]) as { perToken: Record<number, Summary> };
}
