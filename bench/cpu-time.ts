/**
 * How much of the processor does a guard take when tokens come at a model's pace? Threads that wait for work by turning in
 * circles would show here, and nowhere in the time that a token takes.
 *
 *   npm run bench -- cpu-time [--dtype …] [--model embedded] [--paces 0,20,50] [--tokens 100]
 *                             [--batches 4,8,16,32] [--pace 20]    and in batches of so many, at a word each 20 ms
 *                             [--scout]                            and with the embedded guard ahead
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { measureSetting, type Setting } from "./batches.js";
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
    batches: { type: "string", default: "" },
    pace: { type: "string", default: "20" },
    scout: { type: "boolean", default: false },
  },
});
const tokens = Number(values.tokens);
const PROMPT = 100;
const WARM_UP = 20;

const guard = await openGuard(values, { maxStreams: 1, maxTokens: 2 * (PROMPT + WARM_UP + tokens) });
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
const settings = await measureSettings();
report(
  `cpu-time-${values.batches === "" ? "" : "batches-"}${guardName(values)}`,
  { device: values.device, tokens, results, settings },
  values.device,
);
await guard.close();

/** What batches and a scout cost and save, beside judging every token at once. */
async function measureSettings() {
  const batches = values.batches.split(",").filter(Boolean).map(Number);
  const scout = values.scout ? await guard.scout() : undefined;
  const choices: [string, Setting][] = batches.length === 0 ? [] : [["each token", { mode: "hold-back" }]];
  for (const batch of batches) choices.push([`batches of ${batch}`, { mode: "hold-back", batch }]);
  for (const batch of scout ? batches : []) {
    choices.push([`batches of ${batch}, scout`, { mode: "hold-back", batch, scout }]);
    choices.push([`batches of ${batch}, scout-first`, { mode: "scout-first", batch, scout }]);
  }
  const measured: Record<string, unknown> = {};
  for (const [name, setting] of choices) {
    const result = await measureSetting(guard, setting, tokens, Number(values.pace));
    measured[name] = result;
    console.log(
      `${name}: ${result.cpuMsPerToken} ms of processor time a token, a word waits ${result.waitMs.p50} ms, ` +
        `stopped ${result.stopMs} ms after the word`,
    );
  }
  return measured;
}
