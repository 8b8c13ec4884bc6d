import { chatAnswers } from "./chat-answer.js";
import { completionsAnswers } from "./completions-answer.js";
import type { Dialect } from "./dialect.js";
import { askChat } from "./request/chat.js";
import { askCompletions } from "./request/completions.js";
import { askResponses } from "./request/responses.js";
import { responsesAnswers } from "./responses-answer.js";

/** The judged endpoints: how each reads a request, and how it reads and writes the answer. */
export const ENDPOINTS: Record<string, Dialect> = {
  "/chat/completions": { ask: askChat, ...chatAnswers },
  "/completions": { ask: askCompletions, ...completionsAnswers },
  "/responses": { ask: askResponses, ...responsesAnswers },
};
