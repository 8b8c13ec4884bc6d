import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const results = fileURLToPath(new URL("results/", import.meta.url));
const plots = fileURLToPath(new URL("plots/", import.meta.url));

/** bench/results/NAME.json, if it was measured. */
export function readResult<T>(name: string): T | undefined {
  const path = `${results}${name}.json`;
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined;
}

/** The names of all results that begin so, without .json. */
export function resultNames(beginning: string): string[] {
  const names = readdirSync(results).map((file) => file.replace(/\.json$/, ""));
  return names.filter((name) => name.startsWith(beginning)).sort();
}

/** Writes bench/plots/NAME.svg. */
export function savePicture(name: string, svg: string): void {
  mkdirSync(plots, { recursive: true });
  writeFileSync(`${plots}${name}.svg`, svg);
  console.log(`wrote bench/plots/${name}.svg`);
}
