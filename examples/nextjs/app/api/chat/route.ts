// A route handler of Next.js: an answer of OpenAI's API as server-sent events, the last of which says how it ended.
// next.config.mjs, three folders up, keeps the package out of the bundle.
//   npm i qwen3guard-stream openai
import OpenAI from "openai";
import { type Guard, loadGuard } from "qwen3guard-stream";

export const runtime = "nodejs";

// In development modules are loaded anew with each change: what is to stay hangs on globalThis.
const kept = globalThis as { guard?: Promise<Guard> };

function sharedGuard(): Promise<Guard> {
  kept.guard ??= loadGuard(); // for real users: loadGuard("Qwen/Qwen3Guard-Stream-0.6B")
  kept.guard.catch(() => {
    kept.guard = undefined; // the next request tries again
  });
  return kept.guard;
}

export async function POST(request: Request): Promise<Response> {
  const { messages } = (await request.json()) as { messages: { role: "user"; content: string }[] };
  const guard = await sharedGuard();
  const openai = new OpenAI();
  const stream = guard.moderate(
    (signal) => openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }, { signal }),
    { messages },
  );
  return stream.toResponse({ as: "events" });
}
