import { textsIn } from "../../tokenizer/chat-template/standing.js";
import { isRecord, type Json } from "../../validation/json.js";
import { RequestError } from "../api-error.js";
import { promptOf } from "../request/beside.js";
import type { FieldReader } from "../request/fields.js";
import { contentText, responsesMessages } from "../request/messages.js";
import type { ParsedRequest } from "../request/parsed-request.js";
import { moderationAsked, streamOf } from "../request/settings.js";
import { RESPONSES_BODY } from "../request/tables.js";

const STORED = ["previous_response_id", "conversation", "prompt"];

/**
 * Of `/v1/responses`. What the server has stored (earlier responses, conversations, prompts) is not here to read: what
 * comes with it is judged.
 *
 * @throws {InputError} {RequestError} where the request holds what cannot be judged
 */
export function parseResponses(body: Json, reader: FieldReader): ParsedRequest {
  const { standing, passing } = reader.beside(body, RESPONSES_BODY);
  const variables = variablesOf(body.prompt, reader);
  const stored = STORED.filter((field) => body[field] !== undefined && body[field] !== null);
  for (const _ of stored) reader.unjudged.push("stored");
  const prompt = promptOf(
    responsesMessages(body, reader),
    { standing, passing: [...passing, ...variables] },
    reader,
  );
  if (prompt.messages.length === 0) {
    if (stored.length === 0)
      throw new RequestError(400, "messages_invalid", "The request has no input that can be judged.");
    reader.pass("stored", `a request with nothing but what the server stored (${stored.join(", ")})`);
    prompt.messages.push({ role: "user", content: "" });
  }
  return {
    choices: [prompt],
    stream: streamOf(body.stream),
    moderation: moderationAsked(body.moderation),
    // A server that has begun keeps the input in the conversation, also where it is broken off.
    promptFirst: stored.includes("conversation"),
  };
}

/** The values that a stored prompt is filled with. */
function variablesOf(prompt: unknown, reader: FieldReader): string[] {
  if (prompt === undefined || prompt === null) return [];
  if (!isRecord(prompt)) throw new RequestError(400, "body_invalid", "prompt must be an object.");
  const where = "the request's prompt";
  const texts = reader.texts(prompt, { id: "word", version: "word", variables: "read" }, where);
  const { variables } = prompt;
  if (!isRecord(variables)) return [...texts, ...textsIn(variables)];
  const values = Object.values(variables).map((value) => (typeof value === "string" ? value : [value]));
  return [...texts, ...values.map((value) => contentText(value, where, reader))].filter(
    (value) => value !== "",
  );
}
