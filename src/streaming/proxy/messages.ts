import { InputError } from "../../errors.js";
import type { Policy } from "../../moderation/policy.js";
import type { Message } from "../../tokenizer/template.js";
import { attachment } from "../reply.js";
import { isRecord, type Json, list, record, text } from "./json.js";

const ROLES: Record<string, string> = { developer: "system", function: "tool" };

/** The guard's messages of a chat completions request. */
export function chatMessages(value: unknown, policy: Policy): Message[] {
  if (!Array.isArray(value)) throw invalid("messages must be a list");
  return value.map((message, i): Message => {
    if (!isRecord(message)) throw invalid(`message ${i} is not an object`);
    const role = text(message.role);
    const reasoning = message.reasoning_content ?? message.reasoning;
    return {
      role: ROLES[role] ?? role,
      content: contentText(message.content, policy) + text(message.refusal),
      ...(typeof reasoning === "string" && { reasoning_content: reasoning }),
      ...(Array.isArray(message.tool_calls) && { tool_calls: message.tool_calls }),
    };
  });
}

/** The guard's messages of a responses request: its instructions, then its input. */
export function responsesMessages(body: Json, policy: Policy): Message[] {
  const messages: Message[] = [];
  if (typeof body.instructions === "string") messages.push({ role: "system", content: body.instructions });
  if (typeof body.input === "string") return [...messages, { role: "user", content: body.input }];
  if (!Array.isArray(body.input)) throw invalid("input must be a text or a list");
  for (const item of body.input.map(record)) {
    const type = text(item.type) || "message";
    if (type === "message") {
      const role = text(item.role);
      messages.push({ role: ROLES[role] ?? role, content: contentText(item.content, policy) });
    } else if (type === "function_call_output" || type === "custom_tool_call_output") {
      const { output } = item;
      messages.push({
        role: "tool",
        content: Array.isArray(output) ? contentText(output, policy) : text(output),
      });
    } else if (type === "function_call" || type === "custom_tool_call") {
      const call = {
        type: "function",
        function: { name: item.name, arguments: item.arguments ?? item.input },
      };
      messages.push({ role: "assistant", content: "", tool_calls: [call] });
    } else if (type !== "reasoning") {
      // References, searches, computer calls: nothing of them is here to read.
      attachment(`an item of type ${type}`, policy);
    }
  }
  return messages;
}

const TEXT_PARTS = ["text", "input_text", "output_text", "summary_text"];

function contentText(content: unknown, policy: Policy): string {
  if (content === null || content === undefined) return "";
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw invalid("a message's content must be a text or a list of parts");
  return list(content)
    .map((part) => {
      if (typeof part === "string") return part;
      const { type, text: own, refusal } = record(part);
      if (TEXT_PARTS.includes(text(type))) return text(own);
      if (type === "refusal") return text(refusal);
      attachment(`a part of type ${JSON.stringify(type)}`, policy);
      return "";
    })
    .join("");
}

function invalid(what: string): InputError {
  return new InputError("MESSAGES_INVALID", `The request cannot be judged: ${what}.`);
}
