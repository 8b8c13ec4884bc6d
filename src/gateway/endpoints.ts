import type { Endpoint } from "./answer/codec.js";
import { anthropicCodec } from "./anthropic/codec.js";
import { parseMessages } from "./anthropic/request.js";
import { ollamaChatCodec, ollamaGenerateCodec } from "./ollama/codec.js";
import { parseOllamaChat, parseOllamaGenerate } from "./ollama/request.js";
import { chatCodec } from "./openai/chat-codec.js";
import { parseChat } from "./openai/chat-request.js";
import { completionsCodec } from "./openai/completions-codec.js";
import { parseCompletions } from "./openai/completions-request.js";
import { responsesCodec } from "./openai/responses-codec.js";
import { parseResponses } from "./openai/responses-request.js";

/** The judged endpoints: how each reads a request, and how it reads and writes the answer. */
export const ENDPOINTS: Record<string, Endpoint> = {
  "/chat/completions": { parse: parseChat, ...chatCodec },
  "/completions": { parse: parseCompletions, ...completionsCodec },
  "/responses": { parse: parseResponses, ...responsesCodec },
  "/v1/messages": { parse: parseMessages, ...anthropicCodec },
  "/api/chat": { parse: parseOllamaChat, ...ollamaChatCodec },
  "/api/generate": { parse: parseOllamaGenerate, ...ollamaGenerateCodec },
};
