import { REASONING } from "../gateway/request/messages.js";
import { isRecord } from "../validation/json.js";

/** A client's messages with their reasoning under the one name by which the guard reads it. */
export function withReasoning(messages: unknown): unknown {
  if (!Array.isArray(messages)) return messages;
  return messages.map((message: unknown) => {
    if (!isRecord(message)) return message;
    const said = new Set(REASONING.map((field) => message[field]).filter((text) => text != null));
    const [first, ...others] = said;
    if (first === undefined) return message;
    // What is no text is for others to refuse.
    const reasoning = others.length === 0 ? first : [...said].join("\n\n");
    return { ...message, reasoning_content: reasoning };
  });
}
