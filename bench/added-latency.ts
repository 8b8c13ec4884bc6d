/**
 * What does the guard add to each token? A generator writes responses alone, and with the guard beside it on the same
 * device, through the guard's own API. README.md defines every figure.
 *
 *   npm run bench -- added-latency [--replay PACE,…] [--gives ids,text]   paced replay, the default
 *                                  --qwen3 SIZE,… [--llm-dtype FORMAT]    a Qwen3 in this process, random weights
 *                                  --endpoint URL --llm NAME              an OpenAI-compatible API
 *                                  --transformers MODEL [--llm-dtype …]   transformers.js
 *                                  --llama FILE.gguf                      llama.cpp, by node-llama-cpp
 *
 * --release judged: held back, text leaves once it is judged clear, and need not wait for what might still change it.
 */
import { parseArgs } from "node:util";
import type { Release } from "../src/gate/gate-options.js";
import type { Guard } from "../src/guard.js";
import type { Dtype } from "../src/model/manifest.js";
import type { DeviceName } from "../src/runtime/devices/device-id.js";
import { addedLatency, gapsOf, type Reading, readResponse, usualGaps } from "./arrivals.js";
import { Endpoint } from "./generator/endpoint.js";
import type { Generator } from "./generator/generator.js";
import { LlamaCpp } from "./generator/llama-cpp.js";
import { Qwen3 } from "./generator/qwen3.js";
import { Replay } from "./generator/replay.js";
import { TransformersJs } from "./generator/transformers.js";
import { GUARD_OPTIONS, guardName, openGuard } from "./guard.js";
import { benchIds } from "./model.js";
import { report } from "./report.js";
import { round, summarize, timeFor } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    replay: { type: "string", default: "llama3.1-8b-h200,gpt-4o,llama3-70b-4xh200,llama3.3-70b-4xa100" },
    gives: { type: "string", default: "ids,text" },
    qwen3: { type: "string" },
    "llm-dtype": { type: "string" },
    endpoint: { type: "string" },
    llm: { type: "string", default: "default" },
    transformers: { type: "string" },
    llama: { type: "string" },
    release: { type: "string", default: "settled" },
    tokens: { type: "string", default: "128" },
    rounds: { type: "string", default: "3" },
    /** Seconds for each generator; rounds that no longer fit are left out. */
    budget: { type: "string", default: "60" },
  },
});
const tokens = Number(values.tokens);
const release = values.release as Release;
const MODES = ["hold-back", "stream-first"] as const;
type Mode = (typeof MODES)[number];
const PROMPT = `How do I bake bread? ${"I have an oven, a bowl and some time on my hands. ".repeat(8)}`;
const messages = [{ role: "user", content: PROMPT }];
/** Nothing is stopped, so that every response is read to its end: random weights would flag at random. */
const policy = { action: "ignore" } as const;

const guard = await openGuard(values, { maxStreams: 1, maxTokens: 1024 });
const own = await ownCost(guard);
const results: Record<string, unknown> = {};
const [kind, generators] = chooseGenerators(own.promptTokens);
for (const make of generators) {
  const generator = await make();
  results[generator.name] = await measure(generator);
  await generator.close();
  const name = `added-latency-${kind}-${guardName(values)}${release === "settled" ? "" : `-${release}`}`;
  report(
    name,
    { guard: guardName(values), device: values.device, tokens, release, own, results },
    values.device,
  );
}
await guard.close();

function chooseGenerators(promptTokens: number): [kind: string, (() => Generator | Promise<Generator>)[]] {
  const list = (text: string) => text.split(",");
  const { endpoint, transformers, qwen3, llm, llama } = values;
  const device = values.device as DeviceName;
  const dtype = values["llm-dtype"];
  if (endpoint) return ["endpoint", [() => new Endpoint(endpoint, llm, PROMPT)]];
  if (transformers)
    return ["transformers", [() => TransformersJs.load(transformers, dtype ?? "fp32", PROMPT)]];
  if (llama) return ["llama", [() => LlamaCpp.load(llama, PROMPT, tokens)]];
  if (qwen3) {
    const format = (dtype ?? (device === "cpu" ? "int4" : "bf16")) as Dtype;
    const options = { dtype: format, device, promptTokens, maxTokens: promptTokens + tokens + 1 } as const;
    return ["qwen3", list(qwen3).map((size) => () => Qwen3.load(size, options))];
  }
  const gives = list(values.gives) as ("ids" | "text")[];
  const paces = list(values.replay).flatMap((pace) => gives.map((what) => [pace, what] as const));
  return [
    "replay",
    paces.map(
      ([pace, what]) =>
        () =>
          new Replay(pace, what),
    ),
  ];
}

/** The guard by itself: its prompt, then a token at a time. */
async function ownCost(guard: Guard) {
  const promptMs: number[] = [];
  let promptTokens = 0;
  let tokenMs: number[] = [];
  for (let i = 0; i < 3; i++) {
    const started = performance.now();
    const stream = guard.stream({ messages });
    promptTokens = (await stream.prompt)?.index ?? 0;
    promptMs.push(performance.now() - started);
    const ids = guardIds(guard);
    tokenMs = await timeFor(20_000, { least: 8, most: tokens }, (k) => stream.push(ids[k]));
    stream.close();
  }
  return { promptTokens, promptMs: summarize(promptMs), tokenMs: summarize(tokenMs) };
}

async function measure(generator: Generator) {
  const alone: Reading[] = [];
  const guarded: Record<Mode, Reading[]> = { "hold-back": [], "stream-first": [] };
  const promptFirst: number[] = [];
  const end = performance.now() + Number(values.budget) * 1000;
  let roundMs = 0;
  // The first round warms up.
  for (let i = -1; i < Number(values.rounds); i++) {
    if (i > 0 && performance.now() + roundMs > end) break;
    const started = performance.now();
    const read = (mode: Mode | null, options: { promptFirst?: boolean; firstOnly?: boolean } = {}) =>
      readResponse(
        generator,
        tokens,
        (source) =>
          mode
            ? guard.moderate(toGuard(source), {
                messages,
                policy,
                mode,
                release,
                promptFirst: options.promptFirst,
              })
            : source(new AbortController().signal),
        options,
      );
    const without = await read(null);
    const readings = { "hold-back": await read("hold-back"), "stream-first": await read("stream-first") };
    const serial = await read("hold-back", { promptFirst: true, firstOnly: true });
    roundMs = performance.now() - started;
    if (i < 0) continue;
    alone.push(without);
    for (const mode of MODES) guarded[mode].push(readings[mode]);
    promptFirst.push(serial.releases[0]);
  }
  return summarizeReadings(generator, alone, guarded, promptFirst);
}

function summarizeReadings(
  generator: Generator,
  alone: Reading[],
  guarded: Record<Mode, Reading[]>,
  promptFirst: number[],
) {
  const usual = usualGaps(alone);
  const itlMs = summarize(alone.flatMap(({ arrivals }) => gapsOf(arrivals)));
  const modes = Object.fromEntries(
    MODES.map((mode) => {
      const readings = guarded[mode];
      const { held, slowdown, added } = addedLatency(readings, usual);
      // Null where all had come before the first text was out: a longer response (--tokens) would tell.
      const some = (times: number[]) => (times.length > 0 ? summarize(times) : null);
      const addedMs = some(added);
      return [
        mode,
        {
          ttftMs: summarize(readings.map(({ releases }) => releases[0])),
          itlMs: summarize(readings.flatMap(({ arrivals }) => gapsOf(arrivals))),
          heldMs: some(held),
          slowdownMs: some(slowdown),
          addedMs,
          addedPercent: addedMs && {
            p50: percent(addedMs.p50),
            p90: percent(addedMs.p90),
            p99: percent(addedMs.p99),
          },
        },
      ];
    }),
  );
  const result = {
    generator: generator.about,
    rounds: alone.length,
    alone: {
      ttftMs: summarize(alone.map(({ arrivals }) => arrivals[0])),
      itlMs,
      // What the same arithmetic calls added where there is no guard: the generator's own unevenness.
      addedMs: summarize(addedLatency(alone, usual).added),
    },
    ...modes,
    promptFirstTtftMs: summarize(promptFirst),
  };
  const addedBy = (mode: Mode) => {
    const { addedMs } = modes[mode];
    return `${mode} ${addedMs ? `${addedMs.p50} (${addedMs.p99}) ms` : "nothing after the first text"}`;
  };
  console.log(
    `${generator.name}: ITL alone ${itlMs.p50} ms; added p50 (p99): ` +
      MODES.map(addedBy).join(", ") +
      `; first text alone ${result.alone.ttftMs.p50}, guarded ${modes["hold-back"].ttftMs.p50}, prompt first ${result.promptFirstTtftMs.p50} ms`,
  );
  return result;

  function percent(ms: number): number {
    return round((100 * ms) / itlMs.p50, 3);
  }
}

/** Ids that the guard's vocabulary holds. */
function guardIds(guard: Guard): number[] {
  return benchIds(tokens, 0, guard.tokenizer.vocabSize);
}

/** The embedded guard has a smaller vocabulary than Qwen3: which ids come does not change what they cost. */
function toGuard(source: (signal: AbortSignal) => AsyncIterable<number | string>) {
  const { vocabSize } = guard.tokenizer;
  return async function* (signal: AbortSignal): AsyncGenerator<number | string> {
    for await (const token of source(signal)) yield typeof token === "number" ? token % vocabSize : token;
  };
}
