/** Does the event loop stay free while a model of the 0.6B shape is busy? A 5 ms timer's lag, idle and under load. */
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { Guard } from "../src/guard.js";
import { ChatTemplate } from "../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../src/tokenizer/tokenizer.js";
import { benchIds, benchModel, parseFormat } from "./model.js";
import { report } from "./report.js";
import { summarize } from "./stats.js";

const { values } = parseArgs({
  options: { dtype: { type: "string", default: "int4" }, seconds: { type: "string", default: "10" } },
});
const seconds = Number(values.seconds);
const PERIOD = 5;

const dir = await benchModel(parseFormat(values.dtype));
const tokenizer = await Tokenizer.load(dir);
const engine = await Engine.load(dir, { maxStreams: 8, maxTokens: 4096 });
const guard = new Guard(dir, engine, tokenizer, await ChatTemplate.load(dir, tokenizer));

const lags = {
  idle: await lagDuring(() => new Promise((resolve) => setTimeout(resolve, seconds * 1000))),
  oneStream: await lagDuring(() => generate(1)),
  eightStreams: await lagDuring(() => generate(8)),
  prefill: await lagDuring(prefill),
};
for (const [name, lag] of Object.entries(lags))
  console.log(`${name}: p50 ${lag.p50} ms, p99 ${lag.p99} ms, max ${lag.max} ms`);
report("event-loop", { dtype: values.dtype, timerMs: PERIOD, lagMs: lags });
await guard.close();

/** Milliseconds a repeated timer came later than asked. */
async function lagDuring(work: () => Promise<unknown>) {
  const lags: number[] = [];
  let due = performance.now() + PERIOD;
  const tick = () => {
    lags.push(Math.max(0, performance.now() - due));
    due = performance.now() + PERIOD;
    timer = setTimeout(tick, PERIOD);
  };
  let timer = setTimeout(tick, PERIOD);
  await work();
  clearTimeout(timer);
  return summarize(lags);
}

async function generate(streams: number): Promise<void> {
  const end = performance.now() + seconds * 1000;
  await Promise.all(
    Array.from({ length: streams }, async (_, n) => {
      const stream = guard.stream({ promptIds: benchIds(100, n * 1000) });
      for (let i = 0; performance.now() < end && i < 3000; i++) await stream.push(benchIds(1, i)[0]);
      stream.close();
    }),
  );
}

/** Long prompts, one after the other. */
async function prefill(): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const stream = guard.stream({ promptIds: benchIds(1500) });
    await stream.push(1);
    stream.close();
  }
}
