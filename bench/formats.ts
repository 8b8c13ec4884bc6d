/**
 * What does each format cost: one token at several contexts, chunks, streams stepping together, whole prompts, loading,
 * memory. Through a guard's streams, each format in a process of its own.
 *
 *   npm run bench -- formats [--formats int4,w8a8,…] [--contexts 32,100,…] [--prompts 100,…]
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadBenchGuard } from "./guard.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { report, resultPath } from "./report.js";
import { round, summarize, time } from "./stats.js";

const { values } = parseArgs({
  options: {
    formats: { type: "string", default: "fp32,int8,w8a8,w8a8-kv8,int4,int4-kv8" },
    contexts: { type: "string", default: "32,100,1000,1900" },
    prompts: { type: "string", default: "100,200,500,1000,1900" },
    batches: { type: "string", default: "1,2,4,8,16" },
    steps: { type: "string", default: "40" },
    only: { type: "string" },
  },
});
const numbers = (text: string) => text.split(",").filter(Boolean).map(Number);
const contexts = numbers(values.contexts);
const prompts = numbers(values.prompts);
const steps = Number(values.steps);

if (values.only) console.log(`RESULT ${JSON.stringify(await measure(values.only))}`);
else {
  const previous = existsSync(resultPath("formats"))
    ? JSON.parse(readFileSync(resultPath("formats"), "utf8")).formats
    : {};
  const formats: Record<string, unknown> = { ...previous };
  for (const name of values.formats.split(",")) {
    await benchModel(parseFormat(name));
    const out = execFileSync(
      process.execPath,
      [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2), "--only", name],
      { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
    );
    formats[name] = JSON.parse(/^RESULT (.*)$/m.exec(out)![1]);
    console.log(name, JSON.stringify(formats[name]));
    report("formats", { formats });
  }
}

async function measure(name: string) {
  const dir = await benchModel(parseFormat(name));
  const longest = Math.max(...contexts, ...prompts) + steps * 2 + 600;
  const { guard, loadMs } = await loadBenchGuard(dir, { maxStreams: 16, maxTokens: Math.min(longest, 8192) });

  const perToken: Record<number, unknown> = {};
  let rssMB: ReturnType<typeof memoryMB> | undefined;
  for (const context of contexts) {
    const stream = guard.stream({ promptIds: benchIds(context) });
    await stream.prompt;
    perToken[context] = summarize(await time(steps, 8, (i) => stream.push(benchIds(1, context + i))));
    stream.close();
    if (context <= 2000) rssMB = memoryMB();
  }

  const chunkPerToken: Record<number, unknown> = {};
  for (const length of [4, 16]) {
    const stream = guard.stream({ promptIds: benchIds(100) });
    await stream.prompt;
    const times = await time(20, 3, (i) => stream.push(benchIds(length, 100 + i * length)));
    chunkPerToken[length] = summarize(times.map((ms) => ms / length));
    stream.close();
  }

  const promptMs: Record<number, unknown> = {};
  for (const length of prompts) {
    const times = await time(length > 1000 ? 3 : 7, 1, async (i) => {
      const stream = guard.stream({ promptIds: benchIds(length, i) });
      await stream.prompt;
      stream.close();
    });
    promptMs[length] = summarize(times);
  }

  const batchPerToken: Record<number, unknown> = {};
  for (const size of numbers(values.batches)) {
    const streams = Array.from({ length: size }, (_, n) =>
      guard.stream({ promptIds: benchIds(100, n * 1000) }),
    );
    await Promise.all(streams.map(({ prompt }) => prompt));
    const times = await time(20, 3, (i) =>
      Promise.all(streams.map((s, n) => s.push(benchIds(1, n * 1000 + i)))),
    );
    batchPerToken[size] = summarize(times.map((ms) => ms / size));
    for (const stream of streams) stream.close();
  }
  await guard.close();
  return { loadMs: round(loadMs), rssMB, perToken, chunkPerToken, promptMs, batchPerToken };
}

/** Resident memory of the process: its own pages, and those of files mapped into it. */
function memoryMB() {
  const status = readFileSync("/proc/self/status", "utf8");
  const of = (field: string) =>
    Math.round(Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1]) / 1024);
  return { all: of("VmRSS"), own: of("RssAnon"), files: of("RssFile") };
}
