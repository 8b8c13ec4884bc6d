// Fastify 5: an answer of OpenAI's API as plain text, which ends where the guard stops it.
//   npm i qwen3guard-stream openai fastify
//   OPENAI_API_KEY=… node fastify.mjs
//   curl -N http://127.0.0.1:3000/chat --json '{"messages": [{"role": "user", "content": "How do I bake bread?"}]}'
import Fastify from "fastify";
import OpenAI from "openai";
import { loadGuard } from "qwen3guard-stream";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const openai = new OpenAI();
const app = Fastify();

app.post("/chat", (request, reply) => {
  const { messages } = request.body;
  const ask = (signal) =>
    openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }, { signal });
  const stream = guard.moderate(ask, { messages, replacement: "\n[stopped]" });
  // Fastify destroys the stream when the reader leaves.
  return reply.type("text/plain; charset=utf-8").send(stream.toReadable());
});
app.addHook("onClose", () => guard.close());

console.log(`${await app.listen({ port: Number(process.env.PORT ?? 3000), host: "127.0.0.1" })}/chat`);
