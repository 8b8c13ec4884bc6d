/**
 * What the built package takes of memory: one stream, ids from standard input (JSON), the folder of a model as argument.
 * Plain JavaScript on dist/, because the tools that run TypeScript take memory of their own.
 */
import { readFileSync } from "node:fs";
import { loadGuard } from "../dist/index.js";

const ids = JSON.parse(readFileSync(0, "utf8"));
const guard = await loadGuard(process.argv[2], { maxStreams: 1, maxTokens: ids.length + 1 });
const loaded = memoryMB();
const stream = guard.stream({ promptIds: ids.slice(0, -50) });
await stream.prompt;
for (const id of ids.slice(-50)) await stream.push(id);
console.log(`RESULT ${JSON.stringify({ loaded, full: memoryMB() })}`);
await guard.close();

/** Resident memory of the process: its own pages, and those of files mapped into it. */
function memoryMB() {
  const status = readFileSync("/proc/self/status", "utf8");
  const of = (field) =>
    Math.round((Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1]) * 1024) / 1e6);
  return { all: of("VmRSS"), own: of("RssAnon"), files: of("RssFile") };
}
