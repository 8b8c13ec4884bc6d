/**
 * What does the runtime cost over the bare C API? A guard's stream and a bare loop take turns, token by token, on the
 * very same session, so whatever else happens on the machine hits both.
 */
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { Guard } from "../src/moderation/guard.js";
import { ChatTemplate } from "../src/tokenizer/template.js";
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
const steps = Number(values.steps);
const context = Number(values.context);

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
  const ours: number[] = [];
  const theirs: number[] = [];
  const runs = Math.min(steps, Math.floor((4096 - context) / length) - 10);
  for (let i = -10; i < runs; i++) {
    const past = context + (i + 10) * length;
    const ids = benchIds(length, past);
    const turns = [
      async () => {
        const start = performance.now();
        await stream.push(ids);
        if (i >= 0) ours.push(performance.now() - start);
      },
      async () => {
        const start = performance.now();
        bare.run(ids, past);
        if (i >= 0) theirs.push(performance.now() - start);
      },
    ];
    // Who goes first changes: the second finds the weights of the first in the processor's caches.
    for (const turn of i % 2 === 0 ? turns : turns.reverse()) await turn();
  }
  stream.close();
  const guardMs = summarize(ours);
  const bareMs = summarize(theirs);
  // The median of the pairs' differences: drift over the run and outliers of either side cancel.
  const difference = summarize(ours.map((value, i) => value - theirs[i])).p50;
  const overheadPercent = round((100 * difference) / bareMs.p50, 3);
  results[`chunk${length}`] = { guardMs, bareMs, medianDifferenceMs: difference, overheadPercent };
  console.log(
    `${length} token(s) a step: guard ${guardMs.p50} ms, bare ${bareMs.p50} ms, overhead ${overheadPercent} %`,
  );
}
report("overhead", { dtype: values.dtype, context, ...results });
await guard.close();
