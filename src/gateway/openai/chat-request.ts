import type { Json } from "../../validation/json.js";
import { promptOf } from "../request/beside.js";
import type { FieldReader } from "../request/fields.js";
import { chatMessages } from "../request/messages.js";
import type { ParsedRequest } from "../request/parsed-request.js";
import { countOf, moderationAsked, streamOf } from "../request/settings.js";
import { CHAT_BODY } from "../request/tables.js";

/** Of `/v1/chat/completions`. @throws {InputError} {RequestError} where the request holds what cannot be judged */
export function parseChat(body: Json, reader: FieldReader): ParsedRequest {
  const beside = reader.beside(body, CHAT_BODY);
  const prompt = promptOf(chatMessages(body.messages, reader), beside, reader);
  return {
    choices: Array(countOf(body.n)).fill(prompt),
    stream: streamOf(body.stream),
    moderation: moderationAsked(body.moderation),
  };
}
