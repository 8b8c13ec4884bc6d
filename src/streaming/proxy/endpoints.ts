import { chatCodec } from "./chat-codec.js";
import type { Endpoint } from "./codec.js";
import { completionsCodec } from "./completions-codec.js";
import { parseChat } from "./request/chat.js";
import { parseCompletions } from "./request/completions.js";
import { parseResponses } from "./request/responses.js";
import { responsesCodec } from "./responses-codec.js";

/** The judged endpoints: how each reads a request, and how it reads and writes the answer. */
export const ENDPOINTS: Record<string, Endpoint> = {
  "/chat/completions": { parse: parseChat, ...chatCodec },
  "/completions": { parse: parseCompletions, ...completionsCodec },
  "/responses": { parse: parseResponses, ...responsesCodec },
};
