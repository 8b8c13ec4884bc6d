import { type Message, ROLES, rejectAttachment } from "../../tokenizer/chat-template/messages.js";
import { textsIn } from "../../tokenizer/chat-template/standing.js";
import { isRecord, type Json, text } from "../../validation/json.js";
import { quotedName } from "../../validation/quoted.js";
import type { RequestError } from "../api-error.js";
import { type FieldReader, objectsOf, refusal } from "./fields.js";
import { ATTACHMENTS, CALL, ITEMS, MESSAGE, TEXT_PART, TOOL_CALL } from "./tables.js";

const TEXT_TYPES = new Set(
  `text input_text output_text summary_text reasoning_text refusal thinking reference`.split(/\s+/),
);

/** What servers call a model's reasoning in its messages; clients send it back as it came. */
export const REASONING = ["reasoning_content", "reasoning", "thinking"];

/** A message as the guard is given it: all its text in one place. */
export interface TextMessage extends Message {
  content: string;
}

/** The guard's messages of a chat completions request. */
export function chatMessages(value: unknown, reader: FieldReader): TextMessage[] {
  if (!Array.isArray(value)) throw invalid("messages must be a list");
  return value.map((message, i) => {
    if (!isRecord(message)) throw invalid(`message ${i} is not an object`);
    return readMessage(message, `message ${i}`, reader);
  });
}

/** The guard's messages of a responses request: its instructions, then its input. */
export function responsesMessages({ instructions, input }: Json, reader: FieldReader): TextMessage[] {
  const messages: TextMessage[] = [];
  if (typeof instructions === "string") messages.push({ role: "system", content: instructions });
  else if (instructions !== undefined && instructions !== null) throw invalid("instructions must be a text");
  if (typeof input === "string") return [...messages, { role: "user", content: input }];
  for (const [i, item] of objectsOf(input, "input").entries()) {
    messages.push(...readItem(item, `item ${i} of the input`, reader));
  }
  return messages;
}

/** A message with all that the model may see of it in its text, so that no chat template leaves any of it out. */
function readMessage(message: Json, where: string, reader: FieldReader): TextMessage {
  const { role, name } = message;
  if (typeof role !== "string" || !Object.hasOwn(ROLES, role)) {
    throw invalid(`the role of ${where} must be one of ${Object.keys(ROLES).join(", ")}`);
  }
  const beside = reader.texts(message, MESSAGE, where);
  for (const kind of ["audio", "images"]) {
    const given = message[kind];
    const none = given === undefined || given === null || (Array.isArray(given) && given.length === 0);
    if (!none) attach(kind, reader);
  }
  const thoughts = REASONING.flatMap((field) => textsIn(message[field]));
  const said = contentText(message.content, where, reader) + plainText(message.refusal);
  const calls = callsOf(message, where, reader);
  // Templates show the calls of an assistant's messages alone.
  const shows = ROLES[role] === "assistant";
  const parts = [...new Set(thoughts), said, ...beside, ...(shows ? [] : textsIn(calls))];
  const content = parts.filter((part) => part !== "").join("\n\n");
  return {
    role: ROLES[role],
    content: [plainText(name), content].filter((text) => text !== "").join(": "),
    ...(shows && calls.length > 0 && { tool_calls: calls }),
  };
}

function callsOf({ tool_calls, function_call }: Json, where: string, reader: FieldReader): object[] {
  const calls = objectsOf(tool_calls, `The tool_calls of ${where}`).map((call) => {
    const texts = reader.texts(call, TOOL_CALL, `a tool call of ${where}`);
    const given = [call.function, call.custom].filter((own) => own !== undefined && own !== null);
    if (given.length !== 1) throw invalid(`a tool call of ${where} must have one function or custom call`);
    return functionCall(given[0], texts, where, reader);
  });
  if (function_call === undefined || function_call === null) return calls;
  return [...calls, functionCall(function_call, [], where, reader)];
}

/** A call as chat templates show it. */
function functionCall(call: unknown, beside: string[], where: string, reader: FieldReader): object {
  if (!isRecord(call)) throw invalid(`a tool call of ${where} has no function`);
  const { name } = call;
  if (typeof name !== "string") throw invalid(`a tool call of ${where} has no name`);
  const texts = [...beside, ...reader.texts(call, CALL, `a tool call of ${where}`)];
  const given = [call.arguments, call.input].filter((own) => own !== undefined && own !== null);
  const written = given.map((own) => (typeof own === "string" ? own : JSON.stringify(own)));
  return { type: "function", function: { name, arguments: [...written, ...texts].join("\n") } };
}

function readItem(item: Json, where: string, reader: FieldReader): TextMessage[] {
  const type = item.type ?? "message";
  if (type === "message") return [readMessage(item, where, reader)];
  if (type === "item_reference") {
    reader.unjudged.push("stored");
    return [];
  }
  if (typeof type !== "string" || !Object.hasOwn(ITEMS, type)) {
    if (ATTACHMENTS.has(text(type))) attach(text(type), reader);
    else reader.pass("part", `${where}, of the type ${quotedName(type)}`);
    return [];
  }
  const { role, fields } = ITEMS[type];
  const texts = reader.texts(item, fields, where);
  if (fields.name === "read") {
    const call = functionCall(
      { name: item.name, arguments: item.arguments ?? item.input },
      texts,
      where,
      reader,
    );
    return [{ role, content: "", tool_calls: [call] }];
  }
  if (fields.output === "read") {
    const { output } = item;
    texts.unshift(Array.isArray(output) ? contentText(output, where, reader) : textsIn(output).join("\n"));
  }
  return texts.length > 0 ? [{ role, content: texts.join("\n") }] : [];
}

/** The text of a content or of its parts. @throws {RequestError} messages_invalid */
export function contentText(content: unknown, where: string, reader: FieldReader): string {
  if (content === null || content === undefined) return "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    throw invalid(`the content of ${where} must be a text or a list of text parts`);
  return content.map((part) => partText(part, where, reader)).join("");
}

function partText(part: unknown, where: string, reader: FieldReader): string {
  if (typeof part === "string") return part;
  if (!isRecord(part)) throw invalid(`a part of ${where} is neither a text nor an object`);
  const { type = "text" } = part;
  if (typeof type === "string" && TEXT_TYPES.has(type)) {
    const texts = reader.texts(part, TEXT_PART, `a part of ${where}`);
    return [plainText(part.text) + plainText(part.refusal), ...texts].filter((own) => own !== "").join("\n");
  }
  if (typeof type === "string" && ATTACHMENTS.has(type)) attach(type, reader);
  else reader.pass("part", `a part of ${where} of the type ${quotedName(type)}`);
  return "";
}

/** A field's text as it is, or the texts in it where it is no text. */
export function plainText(value: unknown): string {
  return typeof value === "string" ? value : textsIn(value).join("\n");
}

/** Images, audio and files. @throws {InputError} ATTACHMENT_UNREADABLE */
export function attach(type: string, reader: FieldReader): void {
  rejectAttachment(`a part of type ${type}`, reader.policy.attachments);
  reader.unjudged.push("attachment");
}

export function invalid(what: string): RequestError {
  return refusal("messages_invalid", `The request cannot be judged: ${what}.`);
}
