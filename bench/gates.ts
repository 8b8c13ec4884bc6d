/**
 * What does a gate cost whoever reads? A model of a given pace is read without a gate and through each mode: the time to
 * the first text, how long after its arrival text comes out, and how soon the model is stopped after a flag.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Mode, Release } from "../src/gate/gate-options.js";
import type { Guard } from "../src/guard.js";
import { loadGuard } from "../src/guard.js";
import { loadBenchGuard } from "./guard.js";
import { benchModel, parseFormat } from "./model.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    /** embedded, or a format of the 0.6B shape such as int4. */
    model: { type: "string", default: "embedded" },
    pace: { type: "string", default: "20" },
    first: { type: "string", default: "200" },
    chunks: { type: "string", default: "150" },
    streams: { type: "string", default: "1,8" },
    rounds: { type: "string", default: "3" },
    /** settled, judged */
    release: { type: "string", default: "settled" },
  },
});
const paceMs = Number(values.pace);
const firstMs = Number(values.first);
const release = values.release as Release;
const chunkCount = Number(values.chunks);
/** The response token at which a policy made for it blocks. */
const FLAG_AT = 60;

// As models give them: a word with the space before it.
const WORDS =
  " mix the flour with water and a little salt then let it rest for an hour before you bake it in a hot oven".split(
    /(?= )/,
  );
const PROMPT = `How do I bake bread? ${"I have an oven, a bowl and some time on my hands. ".repeat(8)}`;
const messages = [{ role: "user", content: PROMPT }];
const chunks = Array.from({ length: chunkCount }, (_, i) => WORDS[i % WORDS.length]);

let guard: Guard;
if (values.model === "embedded") guard = await loadGuard(undefined, { maxStreams: 8, maxTokens: 1024 });
else
  ({ guard } = await loadBenchGuard(await benchModel(parseFormat(values.model)), {
    maxStreams: 8,
    maxTokens: 1024,
  }));

const results: Record<string, unknown> = {};
for (const streams of values.streams.split(",").map(Number)) {
  for (const mode of ["none", "hold-back", "stream-first"] as const) {
    const first: number[] = [];
    const delay: number[] = [];
    const stop: number[] = [];
    for (let i = -1; i < Number(values.rounds); i++) {
      const runs = await Promise.all(Array.from({ length: streams }, () => readThrough(mode)));
      const stops =
        mode === "none" ? [] : await Promise.all(Array.from({ length: streams }, () => timeToStop(mode)));
      // The first round warms up.
      if (i < 0) continue;
      first.push(...runs.map((run) => run.first));
      delay.push(...runs.flatMap((run) => run.delays));
      stop.push(...stops.filter((ms) => ms !== null));
    }
    const result = {
      firstTextMs: summarize(first),
      delayMs: summarize(delay),
      ...(stop.length > 0 && { stopMs: summarize(stop) }),
    };
    results[`${mode} x${streams}`] = result;
    console.log(
      `${values.model} ${mode} x${streams}: first text ${result.firstTextMs.p50} ms, delay p50 ${result.delayMs.p50} p99 ${result.delayMs.p99} ms` +
        (stop.length > 0 ? `, stopped after ${result.stopMs?.p50} ms` : ""),
    );
  }
}
report(`gates-${values.model}${release === "settled" ? "" : `-${release}`}`, {
  release,
  model: values.model,
  paceMs,
  firstMs,
  chunks: chunkCount,
  promptTokens: await promptTokens(),
  results,
});
await guard.close();

/** When each chunk was there, and when all of it was out. */
async function readThrough(mode: Mode | "none"): Promise<{ first: number; delays: number[] }> {
  const started = performance.now();
  const given: { end: number; at: number }[] = [];
  async function* model() {
    await sleep(firstMs);
    let end = 0;
    for (const chunk of chunks) {
      end += chunk.length;
      given.push({ end, at: performance.now() });
      yield chunk;
      await sleep(paceMs);
    }
  }
  const policy = { action: "ignore" } as const;
  const stream = mode === "none" ? model() : guard.moderate(model, { messages, policy, mode, release });
  let first = 0;
  let out = 0;
  let next = 0;
  const delays: number[] = [];
  for await (const text of stream) {
    const now = performance.now();
    first ||= now - started;
    out += text.length;
    for (; next < given.length && given[next].end <= out; next++) delays.push(now - given[next].at);
  }
  return { first: round(first, 3), delays };
}

/** Milliseconds from the arrival of the chunk that completes a flag to the model's being stopped; null: it was over. */
async function timeToStop(mode: Mode): Promise<number | null> {
  const given: number[] = [];
  let stopped = 0;
  const stream = guard.moderate(
    async function* (signal) {
      signal.addEventListener("abort", () => {
        stopped = performance.now();
      });
      for (const chunk of chunks) {
        given.push(performance.now());
        yield chunk;
        await sleep(paceMs);
      }
    },
    // The first so many tokens all count, so that a flag is certain.
    {
      messages,
      mode,
      policy: { prompt: { action: "ignore" }, thresholds: { [unsafe()]: 0 }, debounce: FLAG_AT },
    },
  );
  try {
    for await (const _ of stream);
  } catch {
    // The violation.
  }
  const { violation } = await stream.done;
  const end = violation?.span?.end ?? 0;
  let length = 0;
  const chunk = chunks.findIndex((text) => {
    length += text.length;
    return length >= end;
  });
  return stopped === 0 ? null : stopped - given[chunk];
}

function unsafe(): string {
  return guard.labels.responseRisk.find((label) => label.toLowerCase() === "unsafe") as string;
}

async function promptTokens(): Promise<number | undefined> {
  const stream = guard.stream({ messages });
  const prompt = await stream.prompt;
  stream.close();
  return prompt?.index;
}
