// Express 5: an answer of OpenAI's API as server-sent events, the last of which says how it ended.
//   npm i qwen3guard-stream openai express
//   OPENAI_API_KEY=… node express.mjs
//   curl -N http://127.0.0.1:3000/chat --json '{"messages": [{"role": "user", "content": "How do I bake bread?"}]}'
import { pipeline } from "node:stream/promises";
import express from "express";
import OpenAI from "openai";
import { loadGuard } from "qwen3guard-stream";

const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const openai = new OpenAI();
const app = express();

app.post("/chat", express.json(), async (request, response) => {
  const { messages } = request.body;
  const ask = (signal) =>
    openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }, { signal });
  const stream = guard.moderate(ask, { messages });
  response.type("text/event-stream");
  await pipeline(stream.toReadable("events"), response).catch(() => {}); // the reader has left
  const { end, violation } = await stream.done;
  console.log(end, violation ?? ""); // as JSON without the flagged text
});

const server = app.listen(process.env.PORT ?? 3000, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/chat`);
});
