/**
 * What does one more token cost from 64 to 8,000 tokens of context? One stream grows and is timed on its way; then the
 * peers that this machine has, in the same run: onnxruntime-node's own API, and PyTorch with a cache and re-running
 * everything (QWEN3GUARD_PYTHON names a Python with bench/peers/requirements.txt).
 *
 *   npm run bench -- context [--device cuda] [--dtype w8a8,int4,…] [--contexts 64,…] [--budget SECONDS a point] [--limit SECONDS each]
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { GUARD_OPTIONS, type GuardChoice, guardDir, guardName, openGuard } from "./guard.js";
import { benchIds } from "./model.js";
import { torchGuard } from "./peers/torch.js";
import { report } from "./report.js";
import { type Summary, summarize, timeFor } from "./stats.js";

const { values } = parseArgs({
  options: {
    ...GUARD_OPTIONS,
    contexts: { type: "string", default: "64,128,256,512,1024,2048,4096,8000" },
    budget: { type: "string", default: "5" },
    limit: { type: "string", default: "120" },
    peers: { type: "string", default: "js-api,torch-cached,torch-rerun" },
  },
});
const contexts = values.contexts.split(",").map(Number);
const budgetMs = Number(values.budget) * 1000;
const STEPS = { least: 5, most: 100 };
/** A context counts as reached this many tokens early, so that the steps lie around it. */
const EARLY = STEPS.most / 2;

/** Without times where a peer is not there, or fails. */
type Series = { perToken: Record<number, Summary>; [about: string]: unknown };
const results: Record<string, Series> = {};
const peers = values.peers.split(",").filter(Boolean);
const choices = values.dtype?.split(",").map((dtype) => ({ ...values, dtype })) ?? [values];
for (const choice of choices) await contend(guardName(choice), () => ours(choice));
for (const peer of peers) {
  const { QWEN3GUARD_PYTHON } = process.env;
  if (peer === "js-api" && values.device === "cpu") {
    const name = `JS API, ${guardName(choices[0])}`;
    await contend(name, () => jsApi(choices[0]));
  }
  if (!peer.startsWith("torch-") || !QWEN3GUARD_PYTHON) continue;
  const [mode, device] = [peer.slice(6), values.device];
  const options = { mode, device, contexts, budgetMs, limitMs: limitMs(), threads: availableParallelism() };
  await contend(`PyTorch, ${mode}`, async () => torchGuard(QWEN3GUARD_PYTHON, options));
}

async function contend(name: string, run: () => Promise<Series>): Promise<void> {
  results[name] = await run().catch((error: Error) => ({ perToken: {}, failed: error.message }));
  const line = Object.entries(results[name].perToken).map(([context, { p50 }]) => `${context}: ${p50}`);
  console.log(`${name}, ms a token: ${line.join(", ")}`);
  const question = peers.length > 0 ? "context-peers" : `context-${guardName(choices[0])}`;
  report(question, { device: values.device, contexts, results }, values.device);
}

async function ours(choice: GuardChoice): Promise<Series> {
  const guard = await openGuard(choice, { maxStreams: 1 });
  const { vocabSize } = guard.tokenizer;
  const stream = guard.stream({ promptIds: benchIds(16, 0, vocabSize) });
  const grown = await grow({
    length: 16,
    most: guard.maxTokens - STEPS.most,
    append: (count, at) => stream.push(benchIds(count, at, vocabSize)),
  });
  stream.close();
  await guard.close();
  return grown;
}

async function jsApi(choice: GuardChoice): Promise<Series> {
  const dir = await guardDir(choice);
  if (!dir) return { perToken: {}, note: "the embedded model is exported on first use elsewhere" };
  const api = await (await import("./peers/js-api.js")).JsApi.load(dir);
  await api.prefill(16);
  return grow({
    length: 16,
    most: Number.POSITIVE_INFINITY,
    append: (count, at) => api.run(benchIds(count, at)),
  });
}

/** Grows one sequence from context to context and times single tokens at each, as far as the time goes. */
async function grow(sequence: {
  length: number;
  /** Tokens that fit before the timed ones. */
  most: number;
  append: (count: number, at: number) => Promise<unknown>;
}) {
  const perToken: Record<number, Summary> = {};
  const growthMs: Record<number, number> = {};
  let { length } = sequence;
  const deadline = performance.now() + limitMs();
  let msPerToken = 0;
  for (const context of contexts) {
    if (context > sequence.most) break;
    const count = context - EARLY - length;
    // What comes later costs more: twice as much, by a guess on the safe side.
    if (performance.now() + 2 * msPerToken * count > deadline) break;
    const started = performance.now();
    for (let left = count; left > 0; left -= 256) {
      await sequence.append(Math.min(left, 256), length);
      length += Math.min(left, 256);
    }
    growthMs[context] = Math.round(performance.now() - started);
    if (count > 0) msPerToken = growthMs[context] / count;
    const times = await timeFor(budgetMs, STEPS, () => sequence.append(1, length++));
    perToken[context] = summarize(times);
  }
  return { perToken, growthMs };
}

function limitMs(): number {
  return Number(values.limit) * 1000;
}
