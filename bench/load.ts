/**
 * What does a start cost? Each time in a process of its own, with the files in the system's cache: from the process's
 * start to the package, to the loaded guard (on a GPU with its CUDA graphs), to the first verdicts; and the memory.
 *
 *   npm run bench -- load [--device cuda] [--dtypes w8a8,…] [--starts 3]
 *
 * On a GPU one start a format is measured where --starts does not say: an int8 model took 14 s on an H200.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { GUARD_OPTIONS, guardDir, guardName, openGuard } from "./guard.js";
import { gpuMemoryMB } from "./machine.js";
import { benchIds } from "./model.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const imported = performance.now();
const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    /** "embedded" among them is the embedded model. */
    dtypes: { type: "string" },
    starts: { type: "string" },
    only: { type: "boolean", default: false },
    "no-graphs": { type: "boolean", default: false },
  },
});
const onCpu = values.device === "cpu";

if (values.only) console.log(`RESULT ${JSON.stringify(await start())}`);
else {
  const results: Record<string, unknown> = {};
  for (const dtype of (values.dtypes ?? (onCpu ? "embedded,w8a8,int4,int4-kv8" : "bf16,int4")).split(",")) {
    const choice = dtype === "embedded" ? { model: dtype } : { dtype };
    await guardDir({ device: values.device, ...choice });
    const name = guardName({ device: values.device, ...choice });
    repeat(name, choice);
    if (!onCpu) repeat(`${name}, no CUDA graphs`, choice, ["--no-graphs"]);
  }

  function repeat(name: string, choice: { dtype?: string; model?: string }, flags: string[] = []): void {
    // The first start fills the system's cache.
    const count = Number(values.starts ?? (onCpu ? 3 : 1)) + 1;
    const starts = Array.from({ length: count }, () => startElsewhere(choice, flags)).slice(1);
    results[name] = Object.fromEntries(
      Object.keys(starts[0]).map((key) => [key, summarize(starts.map((figures) => figures[key]))]),
    );
    console.log(name, JSON.stringify(starts.at(-1)));
    report("load", { device: values.device, results }, values.device);
  }
}

function startElsewhere(choice: { dtype?: string; model?: string }, flags: string[]): Record<string, number> {
  const options = Object.entries(choice).flatMap(([name, value]) => [`--${name}`, value]);
  const script = fileURLToPath(import.meta.url);
  const out = execFileSync(
    process.execPath,
    [...process.execArgv, script, "--only", "--device", values.device, ...options, ...flags],
    { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
  );
  return JSON.parse((/^RESULT (.*)$/m.exec(out) as RegExpExecArray)[1]);
}

/** Milliseconds since the process's start, but for the last: that is a token of its own, with all in place. */
async function start(): Promise<Record<string, number>> {
  const before = gpuMemoryMB();
  const begun = performance.now();
  const guard = await openGuard(values, { cudaGraphs: !values["no-graphs"] });
  const loaded = performance.now();
  const stream = guard.stream({ promptIds: benchIds(16, 0, guard.tokenizer.vocabSize) });
  await stream.push(1);
  const judged = performance.now();
  for (let i = 0; i < 5; i++) await stream.push(1);
  const warm = performance.now();
  await stream.push(1);
  const lastMs = performance.now() - warm;
  const memory = {
    ...memoryMB(),
    ...(before !== undefined && { gpuMB: (gpuMemoryMB() as number) - before }),
  };
  stream.close();
  await guard.close();
  return {
    importMs: round(imported),
    loadMs: round(loaded - begun),
    firstVerdictMs: round(judged - loaded),
    warmTokenMs: round(lastMs),
    ...memory,
  };
}

/** Resident memory: the process's own pages, and those of files mapped into it. */
function memoryMB() {
  const status = readFileSync("/proc/self/status", "utf8");
  const of = (field: string) =>
    Math.round(Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1]) / 1024);
  return { ownMB: of("RssAnon"), filesMB: of("RssFile") };
}
