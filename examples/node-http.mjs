// Node's http: an answer of OpenAI's API as plain text, which ends where the guard stops it.
//   npm i qwen3guard-stream openai
//   OPENAI_API_KEY=… node node-http.mjs
//   curl -N http://127.0.0.1:3000 -d '{"messages": [{"role": "user", "content": "How do I bake bread?"}]}'
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import OpenAI from "openai";
import { loadGuard } from "qwen3guard-stream";

const { HOST: host = "127.0.0.1", PORT: port = 3000 } = process.env;
const guard = await loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
const openai = new OpenAI();

const server = createServer(async (request, response) => {
  try {
    const { messages } = await json(request);
    const ask = (signal) =>
      openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }, { signal });
    const stream = guard.moderate(ask, { messages, replacement: "\n[stopped]" });
    response.setHeader("content-type", "text/plain; charset=utf-8");
    await pipeline(stream.toReadable(), response);
  } catch (error) {
    // The request is no good, the model or the guard failed, or the reader has left.
    console.error(error.code ?? error.name);
    if (response.headersSent) response.destroy();
    else response.writeHead(400).end();
  }
});
server.listen(port, host, () => console.log(`http://${host}:${server.address().port}`));
