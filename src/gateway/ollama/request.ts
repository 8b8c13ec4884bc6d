import { textsIn } from "../../tokenizer/chat-template/standing.js";
import type { Json } from "../../validation/json.js";
import { promptOf } from "../request/beside.js";
import type { FieldReader, Fields } from "../request/fields.js";
import { attach, chatMessages, invalid, type TextMessage } from "../request/messages.js";
import type { ParsedRequest, Prompt } from "../request/parsed-request.js";
import { streamOf } from "../request/settings.js";

const BODY: Fields = {
  model: "word",
  stream: "read",
  format: "text",
  think: "word",
  keep_alive: "word",
  options: { stop: "unread" },
  template: "refused",
};
export const CHAT_BODY: Fields = { ...BODY, messages: "read", tools: "text" };
export const GENERATE_BODY: Fields = {
  ...BODY,
  prompt: "read",
  suffix: "read",
  system: "read",
  images: "read",
  // Token ids of the model's own.
  context: "refused",
};

/** Of Ollama's `/api/chat`. @throws {InputError} {RequestError} where the request holds what cannot be judged */
export function parseOllamaChat(body: Json, reader: FieldReader): ParsedRequest {
  const beside = reader.beside(body, CHAT_BODY);
  return parsed(body, promptOf(chatMessages(body.messages ?? [], reader), beside, reader));
}

/** Of Ollama's `/api/generate`. @throws {InputError} {RequestError} where the request holds what cannot be judged */
export function parseOllamaGenerate(body: Json, reader: FieldReader): ParsedRequest {
  const beside = reader.beside(body, GENERATE_BODY);
  if (textsIn(body.images).length > 0) attach("images", reader);
  const [system, prompt, suffix] = ["system", "prompt", "suffix"].map((name) => textOf(body, name));
  const messages: TextMessage[] = [{ role: "user", content: prompt + suffix }];
  if (system !== "") messages.unshift({ role: "system", content: system });
  return parsed(body, promptOf(messages, beside, reader));
}

function parsed({ stream }: Json, prompt: Prompt): ParsedRequest {
  // A request with nothing in it loads the model.
  if (prompt.messages.length === 0) prompt.messages.push({ role: "user", content: "" });
  return { choices: [prompt], stream: stream === undefined || stream === null || streamOf(stream) };
}

function textOf(body: Json, name: string): string {
  const value = body[name] ?? "";
  if (typeof value !== "string") throw invalid(`${name} must be a text`);
  return value;
}
