import { readFile } from "node:fs/promises";

/** Name and version of this package. */
export async function packageInfo(): Promise<{ name: string; version: string }> {
  return JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
}
