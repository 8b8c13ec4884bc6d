import { anthropicCodec } from "./anthropic-codec.js";
import { chatCodec } from "./chat-codec.js";
import type { Endpoint } from "./codec.js";
import { completionsCodec } from "./completions-codec.js";
import { ollamaChatCodec, ollamaGenerateCodec } from "./ollama-codec.js";
import { parseMessages } from "./request/anthropic.js";
import { parseChat } from "./request/chat.js";
import { parseCompletions } from "./request/completions.js";
import { parseOllamaChat, parseOllamaGenerate } from "./request/ollama.js";
import { parseResponses } from "./request/responses.js";
import { responsesCodec } from "./responses-codec.js";

/** The judged endpoints: how each reads a request, and how it reads and writes the answer. */
export const ENDPOINTS: Record<string, Endpoint> = {
  "/chat/completions": { parse: parseChat, ...chatCodec },
  "/completions": { parse: parseCompletions, ...completionsCodec },
  "/responses": { parse: parseResponses, ...responsesCodec },
  "/v1/messages": { parse: parseMessages, ...anthropicCodec },
  "/api/chat": { parse: parseOllamaChat, ...ollamaChatCodec },
  "/api/generate": { parse: parseOllamaGenerate, ...ollamaGenerateCodec },
};
