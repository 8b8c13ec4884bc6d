// The AI SDK: a model with the guard around it, for streamText, generateText and the rest.
//   npm i qwen3guard-stream ai @ai-sdk/openai
//   OPENAI_API_KEY=… node ai-sdk.mjs "How do I bake bread?"
import { openai } from "@ai-sdk/openai";
import { streamText, wrapLanguageModel } from "ai";
import { loadGuard } from "qwen3guard-stream";
import { guardMiddleware } from "qwen3guard-stream/ai-sdk";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const model = wrapLanguageModel({ model: openai.chat("gpt-4o-mini"), middleware: guardMiddleware(guard) });

const result = streamText({ model, prompt: process.argv[2] ?? "How do I bake bread?" });
for await (const text of result.textStream) process.stdout.write(text);
if ((await result.finishReason) === "content-filter") {
  const { violation } = (await result.providerMetadata).qwen3guard;
  process.stdout.write(`\n[${violation.part} stopped: ${violation.risk}, ${violation.category}]`);
}
console.log();
await guard.close();
