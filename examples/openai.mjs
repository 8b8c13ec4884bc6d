// The openai client: an answer on the terminal, as far as it may be seen.
//   npm i qwen3guard-stream openai
//   OPENAI_API_KEY=… node openai.mjs "How do I bake bread?"
import OpenAI from "openai";
import { loadGuard, ModerationViolation } from "qwen3guard-stream";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const openai = new OpenAI();
const messages = [{ role: "user", content: process.argv[2] ?? "How do I bake bread?" }];

const call = openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true });
try {
  for await (const text of guard.moderate(call, { messages })) process.stdout.write(text);
} catch (error) {
  if (!(error instanceof ModerationViolation)) throw error;
  process.stdout.write(`\n[${error.part} stopped: ${error.risk}, ${error.category}]`);
} finally {
  console.log();
  await guard.close();
}
