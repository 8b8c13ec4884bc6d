/**
 * How much of the processor does a guard take when tokens come at a model's pace? Threads that wait for work by turning in
 * circles would show here, and nowhere in the time that a token takes.
 *
 *   npm run bench -- cpu-time [--dtype …] [--model embedded] [--paces 0,20,50] [--tokens 100]
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { GUARD_OPTIONS, guardName, openGuard } from "./guard.js";
import { benchIds } from "./model.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    /** Milliseconds between a verdict and the next token. */
    paces: { type: "string", default: "0,20,50" },
    tokens: { type: "string", default: "100" },
  },
});
const tokens = Number(values.tokens);
const PROMPT = 100;
const WARM_UP = 20;

const guard = await openGuard(values, { maxStreams: 1, maxTokens: PROMPT + WARM_UP + tokens + 10 });
const { vocabSize } = guard.tokenizer;
const results: Record<string, unknown> = {};
for (const pace of values.paces.split(",").map(Number)) {
  const stream = guard.stream({ promptIds: benchIds(PROMPT, 0, vocabSize) });
  for (const id of benchIds(WARM_UP, PROMPT, vocabSize)) await stream.push(id);
  const times: number[] = [];
  const [before, started] = [process.cpuUsage(), performance.now()];
  for (const id of benchIds(tokens, PROMPT + WARM_UP, vocabSize)) {
    const pushed = performance.now();
    await stream.push(id);
    times.push(performance.now() - pushed);
    if (pace > 0) await sleep(pace);
  }
  const { user, system } = process.cpuUsage(before);
  const cpuMs = (user + system) / 1000;
  const cores = round(cpuMs / (performance.now() - started));
  stream.close();
  results[pace] = { tokenMs: summarize(times), cpuMsPerToken: round(cpuMs / tokens), cores };
  console.log(
    `${pace} ms between tokens: p50 ${summarize(times).p50} ms, ${round(cpuMs / tokens)} ms of processor time, ${cores} cores busy`,
  );
}
report(`cpu-time-${guardName(values)}`, { device: values.device, tokens, results }, values.device);
await guard.close();
