/**
 * What do the formats cost on a device? Each in a process of its own: a token early and late in a conversation, a token
 * in a chunk of 16, a token where eight streams step together, a whole prompt, and the model's size.
 *
 *   npm run bench -- dtype [--device cuda] [--dtypes bf16,int4,…] [--budget SECONDS a point]
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { GuardStream } from "../src/moderation/stream.js";
import { GUARD_OPTIONS, openGuard } from "./guard.js";
import { benchIds } from "./model.js";
import { report } from "./report.js";
import { type Summary, summarize, timeFor } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    dtypes: { type: "string" },
    budget: { type: "string", default: "3" },
    only: { type: "boolean", default: false },
  },
});
const onCpu = values.device === "cpu";
const budgetMs = Number(values.budget) * 1000;
const STREAMS = 8;
const CHUNK = 16;
const FEW = { least: 3, most: 40 };

interface Costs {
  sizeMB: number;
  /** Milliseconds. */
  tokenAt100: Summary;
  tokenAt1000: Summary;
  tokenInChunk: Summary;
  tokenOfEight: Summary;
  prompt500: Summary;
}

if (values.only) console.log(`RESULT ${JSON.stringify(await measure())}`);
else {
  const results: Record<string, Costs> = {};
  const dtypes = values.dtypes ?? (onCpu ? "w8a8,w8a8-kv8,int4,int4-kv8" : "bf16,fp16,int8,int4");
  for (const dtype of dtypes.split(",")) {
    const script = fileURLToPath(import.meta.url);
    const out = execFileSync(
      process.execPath,
      [...process.execArgv, script, ...process.argv.slice(2), "--only", "--dtype", dtype],
      { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
    );
    results[dtype] = JSON.parse((/^RESULT (.*)$/m.exec(out) as RegExpExecArray)[1]);
    const { tokenAt100, tokenAt1000, tokenInChunk, tokenOfEight, prompt500 } = results[dtype];
    console.log(
      `${dtype}: a token ${tokenAt100.p50} ms at 100, ${tokenAt1000.p50} at 1,000, ${tokenInChunk.p50} in chunks, ` +
        `${tokenOfEight.p50} of eight streams; prompt of 500 ${prompt500.p50} ms`,
    );
    report("dtype", { device: values.device, results }, values.device);
  }
}

async function measure(): Promise<Costs> {
  const guard = await openGuard(values, { maxStreams: STREAMS, maxTokens: 2048 });
  const sizeMB = Math.round(Object.values(guard.manifest.files).reduce((sum, n) => sum + n, 0) / 1e6);
  const tokenCost = async (stream: GuardStream) => {
    for (let i = 0; i < 3; i++) await stream.push(benchIds(1, i));
    return summarize(await timeFor(budgetMs, FEW, (i) => stream.push(benchIds(1, i))));
  };
  const one = await opened(100);
  const tokenAt100 = await tokenCost(one);
  await one.push(benchIds(CHUNK));
  const chunks = await timeFor(budgetMs, FEW, (i) => one.push(benchIds(CHUNK, i * CHUNK)));
  one.close();
  const late = await opened(1000);
  const tokenAt1000 = await tokenCost(late);
  late.close();

  const streams = await Promise.all(Array.from({ length: STREAMS }, (_, n) => opened(100, n * 1000)));
  const together = (i: number) => Promise.all(streams.map((s, n) => s.push(benchIds(1, n * 1000 + i))));
  for (let i = 0; i < 3; i++) await together(i);
  const steps = await timeFor(budgetMs, FEW, together);
  for (const stream of streams) stream.close();

  const prompts = await timeFor(budgetMs, FEW, async (i) => (await opened(500, i)).close());
  await guard.close();
  return {
    sizeMB,
    tokenAt100,
    tokenAt1000,
    tokenInChunk: summarize(chunks.map((ms) => ms / CHUNK)),
    tokenOfEight: summarize(steps.map((ms) => ms / STREAMS)),
    prompt500: summarize(prompts),
  };

  async function opened(context: number, seed = 0): Promise<GuardStream> {
    const stream = guard.stream({ promptIds: benchIds(context, seed) });
    await stream.prompt;
    return stream;
  }
}
