// Ollama: an answer of a model on this machine, with its reasoning.
//   npm i qwen3guard-stream ollama
//   node ollama.mjs "How do I bake bread?"
import { Ollama } from "ollama";
import { loadGuard, ModerationViolation } from "qwen3guard-stream";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const ollama = new Ollama({ host: process.env.OLLAMA_HOST });
const messages = [{ role: "user", content: process.argv[2] ?? "How do I bake bread?" }];

const call = ollama.chat({ model: "qwen3:0.6b", messages, stream: true, think: true });
try {
  // reasoning: it is judged and shown, between <think> and </think>.
  for await (const text of guard.moderate(call, { messages, reasoning: true })) process.stdout.write(text);
} catch (error) {
  if (!(error instanceof ModerationViolation)) throw error;
  process.stdout.write(`\n[${error.part} stopped: ${error.risk}, ${error.category}]`);
} finally {
  console.log();
  await guard.close();
}
