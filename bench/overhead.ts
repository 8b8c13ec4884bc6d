/**
 * What does the runtime cost over the bare C API? A guard's stream and a bare loop take turns on the
 * very same session, so whatever else happens on the machine hits both.
 */
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { Guard } from "../src/guard.js";
import { ChatTemplate } from "../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../src/tokenizer/tokenizer.js";
import { BareLoop } from "./bare-loop.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    dtype: { type: "string", default: "int4" },
    steps: { type: "string", default: "300" },
    context: { type: "string", default: "100" },
  },
});
/** Steps each side takes before it is the other's turn: a change of sides also changes threads, which costs. */
const BLOCK = 20;
const steps = Number(values.steps);
const context = Number(values.context);
if (!(steps >= 1) || !(context >= 1 && context <= 3000)) {
  throw new RangeError("--steps must be at least 1, --context from 1 to 3000.");
}

const dir = await benchModel(parseFormat(values.dtype));
const engine = await Engine.load(dir, { maxStreams: 1, maxTokens: 4096 });
const tokenizer = await Tokenizer.load(dir);
const guard = new Guard(dir, engine, tokenizer, await ChatTemplate.load(dir, tokenizer));
const bare = new BareLoop(engine.session, engine.manifest, 4096, engine.cacheType);

const results: Record<string, unknown> = {};
for (const length of [1, 16]) {
  const prompt = benchIds(context);
  const stream = guard.stream({ promptIds: prompt });
  await stream.prompt;
  bare.run(prompt, 0);
  const contenders = {
    guard: { times: [] as number[][], run: async (ids: number[]) => void (await stream.push(ids)) },
    bareAsync: { times: [] as number[][], run: (ids: number[], past: number) => bare.runAsync(ids, past) },
    bare: { times: [] as number[][], run: async (ids: number[], past: number) => bare.run(ids, past) },
  };
  // One block more fits, to warm up.
  const room = Math.floor((4096 - context) / length / BLOCK) - 1;
  const blocks = Math.min(Math.ceil(steps / BLOCK), room);
  for (let block = -1; block < blocks; block++) {
    // Who goes first changes: the next finds the weights of the first in the processor's caches.
    const order = Object.values(contenders);
    for (let i = 0; i < order.length; i++) {
      const { times, run } = order[(i + block + order.length) % order.length];
      const taken: number[] = [];
      for (let k = 0; k < BLOCK; k++) {
        const past = context + ((block + 1) * BLOCK + k) * length;
        const ids = benchIds(length, past);
        const start = performance.now();
        await run(ids, past);
        taken.push(performance.now() - start);
      }
      // The first block warms up.
      if (block >= 0) times.push(taken);
    }
  }
  stream.close();
  const { guard: ours, bareAsync, bare: sync } = contenders;
  const [guardMs, bareAsyncMs, bareMs] = [ours, bareAsync, sync].map(({ times }) => summarize(times.flat()));
  // The median over pairs of blocks: drift over the run and outliers of either side cancel.
  const over = (yardstick: number[][]) =>
    round(
      100 * (summarize(ours.times.map((t, i) => summarize(t).p50 / summarize(yardstick[i]).p50)).p50 - 1),
      3,
    );
  const overheadPercent = { overBare: over(sync.times), overBareAsync: over(bareAsync.times) };
  results[`chunk${length}`] = { guardMs, bareAsyncMs, bareMs, overheadPercent };
  console.log(
    `${length} token(s) a step: guard ${guardMs.p50} ms; bare loop ${bareMs.p50} ms (+${overheadPercent.overBare} %), ` +
      `on a worker thread ${bareAsyncMs.p50} ms (+${overheadPercent.overBareAsync} %)`,
  );
}
report("overhead", { dtype: values.dtype, context, ...results });
await guard.close();
