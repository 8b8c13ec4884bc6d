/**
 * What does a prompt cost over a float cache and over an int8 one? Bare loops in the engine's chunks, in turns, so that
 * whatever else the machine does hits all alike.
 *
 *   npm run bench -- prompts [--formats w8a8,w8a8-kv8,…] [--lengths 100,500,…] [--rounds 3] [--chunk 256]
 */
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { BareLoop } from "./bare-loop.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { report } from "./report.js";
import { type Summary, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    formats: { type: "string", default: "w8a8,w8a8-kv8,int4,int4-kv8" },
    lengths: { type: "string", default: "100,500,1000,2000" },
    rounds: { type: "string", default: "3" },
    chunk: { type: "string", default: "256" },
  },
});
const lengths = values.lengths.split(",").map(Number);
const [rounds, chunk] = [Number(values.rounds), Number(values.chunk)];

const loops = new Map<string, BareLoop>();
for (const format of values.formats.split(",")) {
  const engine = await Engine.load(await benchModel(parseFormat(format)), { maxStreams: 1, maxTokens: 64 });
  const loop = new BareLoop(engine.session, engine.manifest, Math.max(...lengths) + 1, engine.cacheType);
  loop.run(benchIds(32), 0);
  loops.set(format, loop);
}

const promptMs: Record<string, Record<number, Summary>> = {};
for (const length of lengths) {
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const [format, loop] of loops) {
      const started = performance.now();
      for (let at = 0; at < length; at += chunk) loop.run(benchIds(Math.min(chunk, length - at), at), at);
      times.set(format, [...(times.get(format) ?? []), performance.now() - started]);
    }
  }
  for (const [format, taken] of times) {
    promptMs[format] = { ...promptMs[format], [length]: summarize(taken) };
    const { p50, min } = promptMs[format][length];
    console.log(`${format}, a prompt of ${length}: ${p50} ms, least ${min}`);
  }
  report("prompts", { chunk, rounds, promptMs });
}
process.exit(0);
