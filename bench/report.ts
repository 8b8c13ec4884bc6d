import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describeMachine, type Machine, stolenPercent } from "./machine.js";

// Taken before the measurement loads the machine.
const machine: Machine = describeMachine();

/** Writes bench/results/NAME.json; what ran on a GPU stands beside, as NAME-cuda.json. */
export function report(question: string, result: object, device = "cpu"): void {
  const name = device === "cpu" ? question : `${question}-${device.replace(":", "-")}`;
  const dir = fileURLToPath(new URL("results/", import.meta.url));
  mkdirSync(dir, { recursive: true });
  writeFileSync(
    `${dir}${name}.json`,
    `${JSON.stringify({ machine: { ...machine, stolenPercent: stolenPercent() }, ...result }, null, 1)}\n`,
  );
  console.log(`wrote bench/results/${name}.json`);
}

export function resultPath(name: string): string {
  return fileURLToPath(new URL(`results/${name}.json`, import.meta.url));
}
