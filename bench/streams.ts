/**
 * How many concurrent streams does a device carry? Each stream pushes its next token as soon as it has the verdict of
 * the last, so that as many tokens are under way as there are streams.
 *
 *   npm run bench -- streams [--device cuda] [--dtype …] [--streams 1,2,…] [--context TOKENS] [--budget SECONDS a point]
 *     [--no-graphs]
 */
import { parseArgs } from "node:util";
import type { GuardStream } from "../src/moderation/stream.js";
import { GUARD_OPTIONS, guardName, openGuard } from "./guard.js";
import { benchIds } from "./model.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    streams: { type: "string" },
    context: { type: "string", default: "100" },
    budget: { type: "string", default: "8" },
    "no-graphs": { type: "boolean", default: false },
  },
});
const onCpu = values.device === "cpu";
const counts = (values.streams ?? (onCpu ? "1,2,4,8,16" : "1,2,4,8,16,32,64,128,256")).split(",").map(Number);
const context = Number(values.context);
/** Tokens each stream pushes at most, so that contexts stay comparable. */
const MOST = 400;
const WARM_UP = 3;

const graphs = !values["no-graphs"];
const guard = await openGuard(values, {
  maxStreams: Math.max(...counts),
  maxTokens: context + MOST + 10,
  cudaGraphs: graphs,
});
const results: Record<number, unknown> = {};
for (const count of counts) {
  const prompts: Promise<unknown>[] = [];
  const streams = Array.from({ length: count }, (_, n) => {
    const stream = guard.stream({ promptIds: ids(context, n * 1000) });
    prompts.push(stream.prompt);
    return stream;
  });
  await Promise.all(prompts);
  await Promise.all(streams.map((stream, n) => push(stream, n, WARM_UP, Number.POSITIVE_INFINITY)));
  const started = performance.now();
  const end = started + Number(values.budget) * 1000;
  const times = (await Promise.all(streams.map((stream, n) => push(stream, n, MOST, end)))).flat();
  const seconds = (performance.now() - started) / 1000;
  for (const stream of streams) stream.close();
  const result = { tokensPerSecond: round(times.length / seconds), tokenMs: summarize(times) };
  results[count] = result;
  const { p50, p99 } = result.tokenMs;
  console.log(`${count} streams: ${result.tokensPerSecond} tokens/s, a token p50 ${p50} ms, p99 ${p99} ms`);
  const about = { guard: guardName(values), device: values.device, context, recording: guard.recording };
  report(`streams-${guardName(values)}${graphs ? "" : "-no-graphs"}`, { ...about, results }, values.device);
}
await guard.close();

/** Pushes tokens one after the other; returns what each took in milliseconds. */
async function push(stream: GuardStream, seed: number, most: number, end: number): Promise<number[]> {
  const tokens = ids(most, seed * 1000);
  const times: number[] = [];
  for (const token of tokens) {
    const started = performance.now();
    if (started >= end) break;
    await stream.push(token);
    times.push(performance.now() - started);
  }
  return times;
}

function ids(count: number, from: number): number[] {
  return benchIds(count, from, guard.tokenizer.vocabSize);
}
