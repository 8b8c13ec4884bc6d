// Hono: an answer of OpenAI's API as server-sent events, the last of which says how it ended.
//   npm i qwen3guard-stream openai hono @hono/node-server
//   OPENAI_API_KEY=… node hono.mjs
//   curl -N http://127.0.0.1:3000/chat --json '{"messages": [{"role": "user", "content": "How do I bake bread?"}]}'
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import OpenAI from "openai";
import { loadGuard } from "qwen3guard-stream";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const openai = new OpenAI();
const app = new Hono();

app.post("/chat", bodyLimit({ maxSize: 2 ** 20 }), async (context) => {
  const { messages } = await context.req.json();
  const ask = (signal) =>
    openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }, { signal });
  return guard.moderate(ask, { messages }).toResponse({ as: "events" });
});

serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 3000), hostname: "127.0.0.1" }, ({ port }) => {
  console.log(`http://127.0.0.1:${port}/chat`);
});
