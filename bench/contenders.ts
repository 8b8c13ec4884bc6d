/**
 * The same work done otherwise, in rounds, so that whatever else the machine does hits all alike: a bare loop on the C
 * API; onnxruntime-node's own JavaScript API, which hands the whole cache out and in again; re-running the whole sequence
 * for each token. Where QWEN3GUARD_PYTHON names a Python with bench/peers/requirements.txt installed: OpenVINO, and
 * PyTorch in bfloat16 with a cache and re-running everything, as the released code does. Where `npm install` was run in
 * bench/peers: llama.cpp.
 *
 *   npm run bench -- contenders [--runs ours:int4,openvino:f32,…] [--rounds 2] [--merge]
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { memoryBandwidth } from "./bandwidth.js";
import { BareLoop } from "./bare-loop.js";
import { type Contended, contend } from "./contender.js";
import { loadBenchGuard } from "./guard.js";

import { benchIds, benchModel, parseFormat } from "./model.js";
import { JsApi } from "./peers/js-api.js";
import { report, resultPath } from "./report.js";
import { summarize, time } from "./stats.js";

/** Milliseconds of each measurement, by context, chunk length or prompt length. */
type Times = Record<"perToken" | "chunkPerToken" | "promptMs", Record<string, number[]>>;

const KINDS = ["perToken", "chunkPerToken", "promptMs"] as const;
const PEERS = fileURLToPath(new URL("peers/", import.meta.url));
const PYTHON = process.env.QWEN3GUARD_PYTHON;
/** Contexts grow as they are measured, and need some room. */
const CAPACITY = 2400;
const CHUNK = 16;

const OURS = ["int4", "int4-kv8", "w8a8", "w8a8-kv8"].map((format) => `ours:${format}`);
const RUNS = [...OURS, "bare:int4", "bare:w8a8", "js-api:int4", "rerun:w8a8"];
if (PYTHON) RUNS.push("openvino:f32", "openvino:bf16", "torch:cached", "torch:rerun");
if (existsSync(join(PEERS, "node_modules"))) RUNS.push("llama:q4_0");

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: RUNS.join() },
    contexts: { type: "string", default: "100,1000" },
    prompts: { type: "string", default: "100,500" },
    steps: { type: "string", default: "15" },
    rounds: { type: "string", default: "2" },
    /** Adds to the results at hand instead of replacing them. */
    merge: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const contexts = values.contexts.split(",").map(Number);
const prompts = values.prompts.split(",").map(Number);
const steps = Number(values.steps);

if (values.only) {
  console.log(`RESULT ${JSON.stringify(await measure(values.only))}`);
  process.exit(0);
}

const kept = values.merge ? JSON.parse(readFileSync(resultPath("contenders"), "utf8")) : {};
const results: Record<string, unknown> = kept.results ?? {};
/** What contenders failed of: of those there are no results. */
const failed: Record<string, string> = kept.failed ?? {};
for (const run of values.runs.split(",")) delete failed[run];
const bandwidth: number[] = [];
const all: Record<string, Times> = {};
for (let round = 0; round < Number(values.rounds); round++) {
  bandwidth.push(await memoryBandwidth());
  for (const run of values.runs.split(",")) {
    if (failed[run]) continue;
    const outcome = start(run);
    if ("failed" in outcome) {
      failed[run] = outcome.failed;
      delete results[run];
      console.error(`${run} is left out: ${outcome.failed}`);
      report("contenders", { contexts, bandwidthGBs: bandwidth, results, failed });
      continue;
    }
    const found = outcome.result;
    all[run] ??= { perToken: {}, chunkPerToken: {}, promptMs: {} };
    for (const kind of KINDS) {
      for (const [key, times] of Object.entries(found[kind])) {
        all[run][kind][key] = [...(all[run][kind][key] ?? []), ...times];
      }
    }
    results[run] = Object.fromEntries(KINDS.map((kind) => [kind, mapValues(all[run][kind], summarize)]));
    console.log(run, JSON.stringify(mapValues(found.perToken, (times) => summarize(times).p50)));
    report("contenders", { contexts, bandwidthGBs: bandwidth, results, failed });
  }
}

function start(run: string): Contended<Times> {
  const [who, mode] = run.split(":");
  const work = [values.contexts, values.prompts, values.steps];
  if (who === "torch" || who === "openvino") {
    return contend(PYTHON ?? "python3", [join(PEERS, `${who}_bench.py`), mode, ...work]);
  }
  if (who === "llama") return contend(process.execPath, [join(PEERS, "llama_bench.mjs"), mode, ...work]);
  const script = fileURLToPath(import.meta.url);
  return contend(process.execPath, [...process.execArgv, script, ...process.argv.slice(2), "--only", run]);
}

async function measure(run: string): Promise<Times> {
  const [who, format] = run.split(":");
  const dir = await benchModel(parseFormat(format));
  switch (who) {
    case "ours":
      return measureStreams(dir);
    case "bare":
      return measureBare(dir);
    case "rerun":
      return measureRerun(dir);
    default:
      return measureJsApi(dir);
  }
}

async function measureStreams(dir: string): Promise<Times> {
  const { guard } = await loadBenchGuard(dir, { maxStreams: 1, maxTokens: CAPACITY });
  const open = async (length: number, seed = 0) => {
    const stream = guard.stream({ promptIds: benchIds(length, seed) });
    await stream.prompt;
    return stream;
  };
  const times: Times = { perToken: {}, chunkPerToken: {}, promptMs: {} };
  for (const context of contexts) {
    const stream = await open(context);
    times.perToken[context] = await time(steps, 5, (i) => stream.push(benchIds(1, i)));
    stream.close();
  }
  const stream = await open(100);
  const chunks = await time(10, 2, (i) => stream.push(benchIds(CHUNK, i * CHUNK)));
  times.chunkPerToken[CHUNK] = chunks.map((ms) => ms / CHUNK);
  stream.close();
  for (const length of prompts) {
    times.promptMs[length] = await time(3, 1, async (i) => (await open(length, i)).close());
  }
  return times;
}

async function measureBare(dir: string): Promise<Times> {
  const engine = await Engine.load(dir, { maxStreams: 1, maxTokens: CAPACITY });
  const bare = new BareLoop(engine.session, engine.manifest, CAPACITY, engine.cacheType);
  const times: Times = { perToken: {}, chunkPerToken: {}, promptMs: {} };
  for (const context of contexts) {
    bare.run(benchIds(context), 0);
    times.perToken[context] = await time(steps, 5, (i) => bare.run(benchIds(1, i), context + i));
  }
  const chunks = await time(10, 2, (i) => bare.run(benchIds(CHUNK, i * CHUNK), 100 + i * CHUNK));
  times.chunkPerToken[CHUNK] = chunks.map((ms) => ms / CHUNK);
  for (const length of prompts) {
    times.promptMs[length] = await time(3, 1, (i) => bare.run(benchIds(length, i), 0));
  }
  return times;
}

async function measureRerun(dir: string): Promise<Times> {
  const { guard } = await loadBenchGuard(dir, { maxStreams: 1, maxTokens: CAPACITY });
  const times: Times = { perToken: {}, chunkPerToken: {}, promptMs: {} };
  for (const context of contexts) {
    times.perToken[context] = await time(3, 1, async (i) => {
      const stream = guard.stream({ promptIds: benchIds(context, i) });
      await stream.prompt;
      stream.close();
    });
  }
  return times;
}

async function measureJsApi(dir: string): Promise<Times> {
  const api = await JsApi.load(dir);
  const times: Times = { perToken: {}, chunkPerToken: {}, promptMs: {} };
  for (const context of contexts) {
    await api.prefill(context);
    times.perToken[context] = await time(Math.min(steps, 5), 1, () => api.step());
  }
  return times;
}

function mapValues<A, B>(object: Record<string, A>, map: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, map(value)]));
}
