import { mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { describeMachine, isOlder, type Machine, stolenPercent } from "./machine.js";

// Taken before the measurement loads the machine.
const machine: Machine = describeMachine();

/**
 * Writes bench/results/NAME.json; what ran on a GPU stands beside, as NAME-cuda.json, and what ran with an older processor's
 * kernels as NAME-avx2.json.
 */
export function report(question: string, result: object, device = "cpu"): void {
  const name = device === "cpu" ? question : `${question}-${device.replace(":", "-")}`;
  const path = resultPath(name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(
    path,
    `${JSON.stringify({ machine: { ...machine, stolenPercent: stolenPercent() }, ...result }, null, 1)}\n`,
  );
  console.log(`wrote bench/results/${basename(path)}`);
}

export function resultPath(name: string): string {
  return fileURLToPath(new URL(`results/${name}${isOlder ? "-avx2" : ""}.json`, import.meta.url));
}
