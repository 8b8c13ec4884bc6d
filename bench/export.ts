/** What does an export of the 0.6B shape cost: time and the largest resident memory of the process. */
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { convertCheckpoint } from "../src/calibration/convert-checkpoint.js";
import { BENCH_CACHE, benchCheckpoint, parseFormat } from "./model.js";
import { report } from "./report.js";
import { round } from "./stats.js";

const { values } = parseArgs({
  options: { formats: { type: "string", default: "fp32,int8,w8a8,int4" }, only: { type: "string" } },
});
const checkpoint = await benchCheckpoint();

if (values.only) {
  const dir = await mkdtemp(join(BENCH_CACHE, "export-"));
  const started = performance.now();
  const { files } = await convertCheckpoint(checkpoint, join(dir, "model"), parseFormat(values.only));
  const seconds = round((performance.now() - started) / 1000, 3);
  await rm(dir, { recursive: true });
  const peakMB = Math.round(process.resourceUsage().maxRSS / 1024);
  const sizeMB = Math.round(Object.values(files).reduce((sum, bytes) => sum + bytes, 0) / 1e6);
  console.log(`RESULT ${JSON.stringify({ seconds, peakMB, sizeMB })}`);
} else {
  const formats: Record<string, unknown> = {};
  for (const name of values.formats.split(",")) {
    const out = execFileSync(
      process.execPath,
      [...process.execArgv, fileURLToPath(import.meta.url), "--only", name],
      { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
    );
    formats[name] = JSON.parse(/^RESULT (.*)$/m.exec(out)![1]);
    console.log(name, JSON.stringify(formats[name]));
  }
  report("export", { formats });
}
