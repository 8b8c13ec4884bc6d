/**
 * llama.cpp (the build that node-llama-cpp carries) on a GGUF in the 0.6B shape: node llama_bench.mjs q4_0 CONTEXTS
 * PROMPTS STEPS. The model is made by gguf_model.py, next to the other bench models.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { getLlama } from "node-llama-cpp";

const [format, ...lists] = process.argv.slice(2);
const [contexts, prompts, [steps]] = lists.map((list) => list.split(",").map(Number));
const folder =
  process.env.QWEN3GUARD_BENCH ?? fileURLToPath(new URL("../../.cache/bench", import.meta.url));
const WARMUP = 5;
const CHUNK = 16;

const llama = await getLlama({ gpu: false, build: "never", maxThreads: availableParallelism() });
const model = await llama.loadModel({ modelPath: join(folder, `${format}.gguf`), gpuLayers: 0 });
const context = await model.createContext({
  contextSize: 2400,
  batchSize: 512,
  flashAttention: true,
  threads: availableParallelism(),
});
const sequence = context.getSequence();

const ids = (count, from = 0) => Array.from({ length: count }, (_, i) => ((from + i) * 7919 + 13) % 1000);
const feed = (count, from) => sequence.evaluateWithoutGeneratingNewTokens(ids(count, from));

async function time(count, warmup, work) {
  const times = [];
  for (let i = 0; i < warmup + count; i++) {
    const start = performance.now();
    await work(i);
    if (i >= warmup) times.push(performance.now() - start);
  }
  return times;
}

const result = { perToken: {}, chunkPerToken: {}, promptMs: {} };
for (const length of contexts) {
  await sequence.clearHistory();
  await feed(length);
  result.perToken[length] = await time(steps, WARMUP, (i) => feed(1, length + i));
}
await sequence.clearHistory();
await feed(100);
const chunks = await time(10, 2, (i) => feed(CHUNK, 100 + i * CHUNK));
result.chunkPerToken[CHUNK] = chunks.map((ms) => ms / CHUNK);
for (const length of prompts) {
  result.promptMs[length] = [];
  for (let i = 0; i < 4; i++) {
    await sequence.clearHistory();
    const [spent] = await time(1, 0, () => feed(length, i));
    if (i > 0) result.promptMs[length].push(spent);
  }
}
console.log(`RESULT ${JSON.stringify(result)}`);
process.exit(0);
