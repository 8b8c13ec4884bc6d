/**
 * What does the first run of a length cost, and the second? Prompts of each length one after the other, each time of a new
 * process: as it is, without warming up, and on libuv's threads as before.
 *
 *   npm run bench -- first-runs [--device cuda] [--dtype bf16] [--lengths 20,500,…] [--runs 10] [--nodes]
 *
 * --nodes runs under ONNX Runtime's profiler, and says what the slowest run waits for.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { BatchRunner } from "../src/engine/batch.js";
import { ortApi } from "../src/runtime/api.js";
import { cpu } from "../src/runtime/devices/cpu.js";
import { CudaDevice } from "../src/runtime/devices/cuda/device.js";
import type { Device } from "../src/runtime/devices/device.js";
import { GUARD_OPTIONS, guardName, openGuard } from "./guard.js";
import { benchIds } from "./model.js";
import { report } from "./report.js";
import { round } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    lengths: { type: "string", default: "20,60,200,500,1000" },
    runs: { type: "string", default: "10" },
    nodes: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const runs = Number(values.runs);
const lengths = values.lengths.split(",").map(Number);

/** What is taken out again, to see what it is worth. */
const WAYS = ["as it is", "without warming up", "without warming up, on libuv's threads"] as const;
type Way = (typeof WAYS)[number];

interface Found {
  loadMs: number;
  /** Of each length its runs, one after the other: wall clock, and processor time of the whole process, in milliseconds. */
  prompts: Record<string, { wallMs: number[]; processorMs: number[] }>;
  /** Where asked for, by operation: all its nodes in the slowest run, and in the fastest. */
  nodes?: Record<string, { slowestMs: number; fastestMs: number }>;
}

if (values.only) console.log(`RESULT ${JSON.stringify(await measure(values.only as Way))}`);
else {
  const results: Record<string, Found> = {};
  const name = guardName(values);
  for (const way of WAYS) {
    const script = fileURLToPath(import.meta.url);
    const out = execFileSync(
      process.execPath,
      [...process.execArgv, script, ...process.argv.slice(2), "--only", way],
      { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
    );
    results[way] = JSON.parse((/^RESULT (.*)$/m.exec(out) as RegExpExecArray)[1]);
    console.log(`${way}: loaded in ${results[way].loadMs} ms`);
    for (const [length, { wallMs }] of Object.entries(results[way].prompts)) {
      console.log(`  prompts of ${length}: ${wallMs.join(", ")} ms`);
    }
    if (results[way].nodes) console.log(`  ${JSON.stringify(results[way].nodes)}`);
    report(`first-runs-${name}`, { device: values.device, results }, values.device);
  }
}

async function measure(way: Way): Promise<Found> {
  const device = (values.device.startsWith("cuda") ? CudaDevice.prototype : cpu) as Device;
  if (way !== "as it is") BatchRunner.prototype.warmUp = async () => {};
  // Recordings are made on that thread.
  const pinned = !way.includes("libuv");
  if (!pinned) Object.defineProperty(device, "prepareThread", { value: undefined });
  const profile = values.nodes && way !== "as it is" ? profiled(device) : null;
  const begun = performance.now();
  const guard = await openGuard(values, {
    maxStreams: 4,
    maxTokens: 2048,
    cudaGraphs: pinned,
    prefixCache: false,
  });
  const loadMs = round(performance.now() - begun);
  const prompts: Found["prompts"] = {};
  for (const length of lengths) {
    const times: { wallMs: number[]; processorMs: number[] } = { wallMs: [], processorMs: [] };
    for (let i = 0; i < runs; i++) {
      const processor = process.cpuUsage();
      const start = performance.now();
      const stream = guard.stream({ promptIds: benchIds(length, i, guard.tokenizer.vocabSize) });
      await stream.prompt;
      times.wallMs.push(round(performance.now() - start));
      const { user, system } = process.cpuUsage(processor);
      times.processorMs.push(round((user + system) / 1000));
      stream.close();
    }
    prompts[length] = times;
  }
  await guard.close();
  return { loadMs, prompts, ...(profile && { nodes: profile() }) };
}

/** Has sessions of the device write ONNX Runtime's profile; what it says once they are released. */
function profiled(device: Device): () => NonNullable<Found["nodes"]> {
  const prefix = join(tmpdir(), `first-runs-${process.pid}`);
  const api = ortApi().functions({ EnableProfiling: [14, "void* options, const char* prefix"] });
  const { configure } = device;
  Object.defineProperty(device, "configure", {
    value: async function (this: Device, ...args: Parameters<Device["configure"]>) {
      await configure.apply(this, args);
      api.call("EnableProfiling", args[0], prefix);
    },
  });
  return () => {
    const file = execFileSync("sh", ["-c", `ls ${prefix}*`], { encoding: "utf8" })
      .trim()
      .split("\n")[0];
    return slowest(JSON.parse(readFileSync(file, "utf8")));
  };
}

interface ProfileEvent {
  cat: string;
  name: string;
  dur: number;
  args?: { op_name?: string };
}

/** By the operation, the milliseconds of all its nodes: in the slowest run, and in the fastest with as many nodes. */
function slowest(events: ProfileEvent[]): NonNullable<Found["nodes"]> {
  const profiles: ProfileEvent[][] = [[]];
  for (const event of events) {
    if (event.cat === "Node" && event.name.endsWith("_kernel_time")) profiles.at(-1)?.push(event);
    if (event.cat === "Session" && event.name === "model_run") profiles.push([]);
  }
  const took = (run: ProfileEvent[]) => run.reduce((sum, { dur }) => sum + dur, 0);
  const ordered = profiles.sort((a, b) => took(b) - took(a));
  const fastest = ordered.findLast(({ length }) => length === ordered[0].length) as ProfileEvent[];
  const byOperation: NonNullable<Found["nodes"]> = {};
  for (const [which, run] of [
    ["slowestMs", ordered[0]],
    ["fastestMs", fastest],
  ] as const) {
    for (const { args, dur } of run) {
      const name = args?.op_name ?? "?";
      byOperation[name] ??= { slowestMs: 0, fastestMs: 0 };
      byOperation[name][which] = round(byOperation[name][which] + dur / 1000);
    }
  }
  return byOperation;
}
