/**
 * What does a prompt cost in each format, and a step of one token or of some? Bare loops in the engine's chunks, in turns, so
 * that whatever else the machine does hits all alike; in milliseconds, and in milliseconds of processor time, which other
 * processes lengthen far less.
 *
 *   npm run bench -- prompts [--formats w8a8,w8a8-kv8,…] [--lengths 100,500,…] [--steps 1,16] [--rounds 3] [--chunk 128]
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { MODEL_FILE } from "../src/model/manifest.js";
import { Session } from "../src/runtime/session.js";
import { memoryBandwidth } from "./bandwidth.js";
import { BareLoop } from "./bare-loop.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { report } from "./report.js";
import { type Summary, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    /** A format with -widened: by the kernels that weights need whose sums do not fit 16 bits. */
    formats: { type: "string", default: "w8a8,w8a8-kv8,int4,int4-kv8" },
    lengths: { type: "string", default: "100,500,1000,2000" },
    /** Steps of so many tokens behind a hundred. */
    steps: { type: "string", default: "1,16" },
    rounds: { type: "string", default: "3" },
    chunk: { type: "string", default: "128" },
  },
});
const lengths = values.lengths.split(",").map(Number);
const steps = values.steps.split(",").filter(Boolean).map(Number);
const [rounds, chunk] = [Number(values.rounds), Number(values.chunk)];
/** Tokens before a step, and steps in a round. */
const [BEHIND, STEPS] = [100, 8];
const capacity = Math.max(...lengths, BEHIND + STEPS * Math.max(0, ...steps)) + 1;

const loops = new Map<string, BareLoop>();
for (const format of values.formats.split(",")) {
  const loop = await load(format);
  loop.run(benchIds(32), 0);
  loops.set(format, loop);
}
const bandwidthGBs = await memoryBandwidth();

/** By format, then by what was done. */
type Table = Record<string, Record<string, Summary>>;
const wall: Table = {};
const processor: Table = {};
for (const length of lengths) {
  measure(`prompt of ${length}`, 1, (loop) => {
    for (let at = 0; at < length; at += chunk) loop.run(benchIds(Math.min(chunk, length - at), at), at);
  });
}
for (const step of steps) {
  for (const loop of loops.values()) loop.run(benchIds(BEHIND), 0);
  measure(`token in steps of ${step}`, STEPS * step, (loop) => {
    for (let i = 0; i < STEPS; i++) loop.run(benchIds(step, i), BEHIND + i * step);
  });
}
process.exit(0);

async function load(format: string): Promise<BareLoop> {
  const dir = await benchModel(parseFormat(format.replace("-widened", "")));
  const { manifest, session, cacheType } = await Engine.load(dir, { maxStreams: 1, maxTokens: 64 });
  const options = { threads: availableParallelism(), widenBytes: true };
  const widened = format.endsWith("-widened") && (await Session.load(join(dir, MODEL_FILE), options));
  return new BareLoop(widened || session, manifest, capacity, cacheType);
}

function measure(what: string, tokens: number, work: (loop: BareLoop) => void): void {
  const times = new Map<string, { ms: number; processorMs: number }[]>();
  // The first round warms up.
  for (let round = -1; round < rounds; round++) {
    for (const [format, loop] of loops) {
      const [before, started] = [process.cpuUsage(), performance.now()];
      work(loop);
      const [ms, { user, system }] = [performance.now() - started, process.cpuUsage(before)];
      if (round < 0) continue;
      const taken = { ms: ms / tokens, processorMs: (user + system) / 1000 / tokens };
      times.set(format, [...(times.get(format) ?? []), taken]);
    }
  }
  for (const [format, taken] of times) {
    wall[format] = { ...wall[format], [what]: summarize(taken.map(({ ms }) => ms)) };
    const spent = summarize(taken.map(({ processorMs }) => processorMs));
    processor[format] = { ...processor[format], [what]: spent };
    const { p50, min } = wall[format][what];
    console.log(
      `${format}, a ${what}: ${p50} ms, least ${min}; of processor time ${spent.p50}, ${spent.min}`,
    );
  }
  report("prompts", { chunk, rounds, bandwidthGBs, ms: wall, processorMs: processor });
}
