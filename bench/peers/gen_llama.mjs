/**
 * A Gen guard's verdicts written by llama.cpp (the build that node-llama-cpp carries), greedily:
 *
 *   node gen_llama.mjs MODEL.gguf QUESTIONS.json anew|kept
 *
 * "kept": what a question has in common with the one before stays in the cache, as llama-server does it.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { getLlama } from "node-llama-cpp";

const [modelPath, file, how] = process.argv.slice(2);
const threads = availableParallelism();
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 2400, batchSize: 512, flashAttention: true, threads });
const sequence = context.getSequence();

let before = [];
async function answer(ids, count) {
  let shared = 0;
  while (how === "kept" && shared < ids.length - 1 && ids[shared] === before[shared]) shared++;
  await sequence.eraseContextTokenRanges([{ start: shared, end: sequence.nextTokenIndex }]);
  before = ids;
  let written = 0;
  for await (const _ of sequence.evaluate(ids.slice(shared), { temperature: 0, yieldEogToken: true }))
    if (++written === count) break;
}

const result = {};
for (const [name, asked] of Object.entries(JSON.parse(readFileSync(file, "utf8")))) {
  await answer(asked.at(-1).ids, 2);
  result[name] = [];
  for (const { ids, answer: count } of asked) {
    const start = performance.now();
    await answer(ids, count);
    result[name].push(performance.now() - start);
  }
}
console.log(`RESULT ${JSON.stringify(result)}`);
process.exit(0);
