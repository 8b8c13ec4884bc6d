/**
 * What does each format cost: one token at several contexts, chunks, streams stepping together, whole prompts, loading,
 * memory. Through a guard's streams, each format in a process of its own.
 *
 *   npm run bench -- formats [--formats int4,w8a8,…] [--lengths 32,100,…] [--batches 1,2,…]
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sampleIds } from "../src/calibration/samples.js";
import type { Engine } from "../src/engine/engine.js";
import { memoryBandwidth } from "./bandwidth.js";
import { BareLoop } from "./bare-loop.js";
import { type Contended, contend } from "./contender.js";
import { loadBenchGuard } from "./guard.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { report, resultPath } from "./report.js";
import { round, type Summary, summarize, time } from "./stats.js";

const { values } = parseArgs({
  options: {
    formats: { type: "string", default: "fp32,int8,int8-kv8,w8a8,w8a8-kv8,int4,int4-kv8" },
    /** Prompts of these many tokens, and then single tokens behind them. */
    lengths: { type: "string", default: "32,100,200,500,1000,2000" },
    /** Single tokens behind so many more, in a cache that was filled and not computed. */
    far: { type: "string", default: "8000" },
    batches: { type: "string", default: "1,2,4,8,16" },
    steps: { type: "string", default: "20" },
    only: { type: "string" },
  },
});
const numbers = (text: string) => text.split(",").filter(Boolean).map(Number);
const lengths = numbers(values.lengths);
const steps = Number(values.steps);
/** Tokens of the stream whose memory is measured. */
const MEMORY_TOKENS = 2000;

if (values.only) {
  console.log(`RESULT ${JSON.stringify(await measure(values.only))}`);
  process.exit(0);
}

const kept = existsSync(resultPath("formats")) ? JSON.parse(readFileSync(resultPath("formats"), "utf8")) : {};
const formats: Record<string, unknown> = kept.formats ?? {};
for (const name of values.formats.split(",")) {
  const dir = await benchModel(parseFormat(name));
  const bandwidthGBs = await memoryBandwidth();
  const own = ["--only", name, ...process.argv.slice(2)];
  const outcome = contend<object>(process.execPath, [
    ...process.execArgv,
    fileURLToPath(import.meta.url),
    ...own,
  ]);
  const memory = fileURLToPath(new URL("memory.mjs", import.meta.url));
  const memoryMB = contend<object>(process.execPath, [memory, dir], await text(dir));
  formats[name] = { bandwidthGBs, memoryMB: resultOf(memoryMB), ...resultOf(outcome) };
  console.log(name, JSON.stringify(formats[name]));
  report("formats", { formats });
}

function resultOf(outcome: Contended<object>): object {
  return "result" in outcome ? outcome.result : outcome;
}

/** Tokens of real text: how many pages of the embedding table a text touches depends on its words. */
async function text(dir: string): Promise<string> {
  const ids = (await sampleIds(dir, 512)).flat();
  return JSON.stringify(Array.from({ length: MEMORY_TOKENS }, (_, i) => ids[i % ids.length]));
}

async function measure(name: string) {
  const dir = await benchModel(parseFormat(name));
  const maxTokens = Math.min(Math.max(...lengths) + 300, 8192);
  const { guard, engine, loadMs } = await loadBenchGuard(dir, { maxStreams: 16, maxTokens });

  const promptMs: Record<number, Summary> = {};
  const perToken: Record<number, Summary> = {};
  for (const length of lengths) {
    const times: number[] = [];
    for (let left = length > 500 ? 1 : 4; left > 0; left--) {
      const start = performance.now();
      const stream = guard.stream({ promptIds: benchIds(length, left) });
      await stream.prompt;
      times.push(performance.now() - start);
      if (left === 1) perToken[length] = summarize(await time(steps, 5, (i) => stream.push(benchIds(1, i))));
      stream.close();
    }
    promptMs[length] = summarize(times.length > 1 ? times.slice(1) : times);
  }

  const chunkPerToken: Record<number, Summary> = {};
  for (const length of [4, 16]) {
    const stream = guard.stream({ promptIds: benchIds(100) });
    await stream.prompt;
    const times = await time(12, 3, (i) => stream.push(benchIds(length, 100 + i * length)));
    chunkPerToken[length] = summarize(times.map((ms) => ms / length));
    stream.close();
  }

  const batchPerToken: Record<number, Summary> = {};
  for (const size of numbers(values.batches)) {
    const streams = Array.from({ length: size }, (_, n) =>
      guard.stream({ promptIds: benchIds(100, n * 1000) }),
    );
    await Promise.all(streams.map(({ prompt }) => prompt));
    const times = await time(12, 3, (i) =>
      Promise.all(streams.map((s, n) => s.push(benchIds(1, n * 1000 + i)))),
    );
    batchPerToken[size] = summarize(times.map((ms) => ms / size));
    for (const stream of streams) stream.close();
  }
  for (const context of numbers(values.far)) perToken[context] = await far(engine, context);
  return { loadMs: round(loadMs), perToken, chunkPerToken, promptMs, batchPerToken };
}

/** Single tokens behind a context that nobody computed: what the cache holds does not change the time. */
async function far(engine: Engine, context: number): Promise<Summary> {
  const bare = new BareLoop(engine.session, engine.manifest, context + 100, engine.cacheType);
  bare.fill();
  return summarize(await time(steps, 3, (i) => bare.run(benchIds(1, i), context + i)));
}
