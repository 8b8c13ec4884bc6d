// node-llama-cpp: an answer that is flagged goes on in another way, from what its reader has.
//   npm i qwen3guard-stream node-llama-cpp
//   node node-llama-cpp-regenerate.mjs model.gguf "How do I pick a lock?" introspection
import { getLlama, LlamaChat } from "node-llama-cpp";
import { loadGuard, ModerationViolation } from "qwen3guard-stream";

const [, , modelPath, question = "How do I bake bread?", how = "resample"] = process.argv;
const phrase = { phrase: " Wait. Let me say this in a safe and friendly way:" };
const intervention = how === "phrase" ? phrase : how; // or "resample", "introspection"
const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const llama = await getLlama();
const model = await llama.loadModel({ modelPath });
const context = await model.createContext();
const chat = new LlamaChat({ contextSequence: context.getSequence() });
const user = { type: "user", text: question };

/** What the model says from where its turn stands. What that has in common with the last one is in llama.cpp's cache. */
function ask(signal, { attempt, turn }) {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const onTextChunk = (text) => void writer.write(text).catch(() => {});
  const response = turn === "" ? [] : [turn];
  const options = { signal, stopOnAbortSignal: true, temperature: 0.8, seed: attempt, onTextChunk };
  chat.generateResponse([user, { type: "model", response }], options).then(
    () => writer.close().catch(() => {}),
    (error) => writer.abort(error).catch(() => {}),
  );
  return readable;
}

const options = { mode: "regenerate", buffer: 40, attempts: 5, intervention };
const stream = guard.moderate(ask, { messages: [{ role: "user", content: question }], ...options });
try {
  for await (const text of stream) process.stdout.write(text);
} catch (error) {
  if (!(error instanceof ModerationViolation)) throw error;
  process.stdout.write(`\n[${error.part} stopped: ${error.risk}, ${error.category}]`);
}
console.log(`\n[went on in another way ${(await stream.done).stats.regenerations} times]`);
await Promise.all([guard.close(), llama.dispose()]);
