import { fileURLToPath } from "node:url";
import { contend } from "../contender.js";
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
  const outcome = contend<{ perToken: Record<number, Summary> }>(python, [script, JSON.stringify(options)]);
  if ("failed" in outcome) throw new Error(outcome.failed);
  return outcome.result;
}
