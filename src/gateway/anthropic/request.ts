import { textsIn } from "../../tokenizer/chat-template/standing.js";
import { isRecord, type Json } from "../../validation/json.js";
import { quotedName } from "../../validation/quoted.js";
import { promptOf } from "../request/beside.js";
import type { FieldReader } from "../request/fields.js";
import { attach, invalid, plainText, type TextMessage } from "../request/messages.js";
import type { ParsedRequest } from "../request/parsed-request.js";
import { streamOf } from "../request/settings.js";
import { BLOCKS, MESSAGE, MESSAGES_BODY, TEXT_SOURCE } from "./tables.js";

const ROLES = ["user", "assistant", "system"];
/** Between texts that are not each other's continuation. */
const APART = "\n\n";

/** What a block says, and whose turn it is in. */
interface TurnText {
  role: string;
  text: string;
  /** It is not the continuation of the text before it, nor is the text after it its own. */
  apart?: boolean;
  call?: object;
}

/** Of Anthropic's `/v1/messages`. @throws {InputError} {RequestError} where the request holds what cannot be judged */
export function parseMessages(body: Json, reader: FieldReader): ParsedRequest {
  const beside = reader.beside(body, MESSAGES_BODY);
  if (!Array.isArray(body.messages)) throw invalid("messages must be a list");
  const messages = [
    ...(body.system === undefined || body.system === null
      ? []
      : turnsOf(contentTexts(body.system, "system", "the system prompt", reader))),
    ...body.messages.flatMap((message, i) => readMessage(message, `message ${i}`, reader)),
  ];
  return { choices: [promptOf(messages, beside, reader)], stream: streamOf(body.stream) };
}

function readMessage(message: unknown, where: string, reader: FieldReader): TextMessage[] {
  if (!isRecord(message)) throw invalid(`${where} is not an object`);
  const { role, content } = message;
  if (typeof role !== "string" || !ROLES.includes(role)) {
    throw invalid(`the role of ${where} must be one of ${ROLES.join(", ")}`);
  }
  const beside = reader.texts(message, MESSAGE, where).map((text) => ({ role, text, apart: true }));
  const turns = turnsOf([...contentTexts(content, role, where, reader), ...beside]);
  return turns.length > 0 ? turns : [{ role, content: "" }];
}

/** Texts of one turn in one message; each result of a tool is a turn of its own. */
function turnsOf(texts: readonly TurnText[]): TextMessage[] {
  const turns: TextMessage[] = [];
  let apart = false;
  for (const said of texts) {
    const last = turns.at(-1);
    const calls = said.call ? [said.call] : [];
    if (last && last.role === said.role && said.role !== "tool") {
      const between = last.content !== "" && said.text !== "" && (apart || said.apart) ? APART : "";
      last.content += between + said.text;
      if (calls.length > 0) last.tool_calls = [...(last.tool_calls ?? []), ...calls];
    } else {
      const { role, text: content } = said;
      turns.push({ role, content, ...(calls.length > 0 && { tool_calls: calls }) });
    }
    if (said.text !== "") apart = said.apart === true;
  }
  return turns;
}

function contentTexts(content: unknown, role: string, where: string, reader: FieldReader): TurnText[] {
  if (typeof content === "string") return [{ role, text: content }];
  if (!Array.isArray(content)) throw invalid(`the content of ${where} must be a text or a list of blocks`);
  return content.flatMap((block) => readBlock(block, role, where, reader));
}

function readBlock(block: unknown, role: string, where: string, reader: FieldReader): TurnText[] {
  if (!isRecord(block)) throw invalid(`a block of ${where} is not an object`);
  const { type } = block;
  if (typeof type !== "string" || !Object.hasOwn(BLOCKS, type)) {
    reader.pass("part", `a block of ${where} of the type ${quotedName(type)}`);
    return [];
  }
  const { as, fields } = BLOCKS[type];
  if (as === "attachment") {
    attach(type, reader);
    return [];
  }
  const texts = reader.texts(block, fields, `a block of ${where}`);
  if (as === "call") {
    const call = callOf(block, texts, where);
    // Templates show the calls of an assistant's messages alone.
    return role === "assistant"
      ? [{ role, text: "", call }]
      : [{ role, text: joined(textsIn(call)), apart: true }];
  }
  if (as === "result") {
    const own = fields.content === "read" ? [textOf(block.content, where, reader)] : [];
    return [{ role: "tool", text: joined([...own, ...texts]) }];
  }
  if (as === "document") texts.unshift(sourceText(block.source, where, reader));
  if (type === "search_result") texts.push(textOf(block.content, where, reader));
  const text = joined([plainText(block.text), plainText(block.thinking), ...texts]);
  return text === "" ? [] : [{ role, text, apart: type !== "text" }];
}

/** A call as chat templates show it. */
function callOf({ name, input }: Json, texts: readonly string[], where: string): object {
  if (typeof name !== "string") throw invalid(`a tool call of ${where} has no name`);
  const written = typeof input === "string" ? input : JSON.stringify(input ?? {});
  return { type: "function", function: { name, arguments: joined([written, ...texts]) } };
}

/** All that a content says, whose blocks are no turns of their own. */
function textOf(content: unknown, where: string, reader: FieldReader): string {
  if (content === undefined || content === null) return "";
  const turns = turnsOf(contentTexts(content, "user", where, reader));
  return joined(turns.flatMap(({ content: text, tool_calls }) => [text, ...textsIn(tool_calls)]));
}

function sourceText(source: unknown, where: string, reader: FieldReader): string {
  if (!isRecord(source)) throw invalid(`a document of ${where} has no source`);
  if (source.type !== "text" && source.type !== "content") {
    attach("document", reader);
    return "";
  }
  const texts = reader.texts(source, TEXT_SOURCE, `a document of ${where}`);
  return joined([plainText(source.data), textOf(source.content, where, reader), ...texts]);
}

function joined(texts: readonly string[]): string {
  return texts.filter((text) => text !== "").join("\n");
}
