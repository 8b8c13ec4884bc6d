import { refusal } from "../gateway/request/fields.js";
import { REASONING } from "../gateway/request/messages.js";
import { isRecord, type Json } from "../validation/json.js";
import { quotedName } from "../validation/quoted.js";

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

/**
 * Refuses what stands in a request beside its fields: a slip, or a text that nobody would judge.
 *
 * @throws {RequestError} field_unknown
 */
export function requireFields(body: Json, fields: readonly string[]): void {
  const unknown = Object.keys(body).find((name) => body[name] != null && !fields.includes(name));
  if (unknown === undefined) return;
  const message = `There is no field ${quotedName(unknown)} here, and nobody would judge it. It takes: ${fields.join(", ")}.`;
  throw refusal("field_unknown", message);
}
