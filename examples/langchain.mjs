// LangChain.js: what a chain's model says, as far as it may be seen.
//   npm i qwen3guard-stream @langchain/core @langchain/openai
//   OPENAI_API_KEY=… node langchain.mjs "bread"
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { ChatOpenAI } from "@langchain/openai";
import { loadGuard, ModerationViolation } from "qwen3guard-stream";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const prompt = await ChatPromptTemplate.fromTemplate("How do I bake {what}?").invoke({
  what: process.argv[2] ?? "bread",
});
const model = new ChatOpenAI({ model: "gpt-4o-mini" });

// What the model is asked is what the guard has to know.
const messages = prompt.toChatMessages().map(({ text }) => ({ role: "user", content: text }));
const ask = (signal) => model.stream(prompt, { signal });
try {
  for await (const text of guard.moderate(ask, { messages })) process.stdout.write(text);
} catch (error) {
  if (!(error instanceof ModerationViolation)) throw error;
  process.stdout.write(`\n[${error.part} stopped: ${error.risk}, ${error.category}]`);
} finally {
  console.log();
  await guard.close();
}
