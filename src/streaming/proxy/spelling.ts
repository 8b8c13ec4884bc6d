import { RequestError } from "./api-error.js";
import { isRecord, type Json, list } from "./json.js";

/** What is read of a request, of its messages and of their parts. */
const FIELDS = [
  ...["messages", "prompt", "suffix", "input", "instructions", "n"],
  ...["type", "role", "content", "text", "refusal", "output", "reasoning", "reasoning_content", "tool_calls"],
];

/**
 * Refuses fields that are spelled in capitals: servers in Go, Ollama for one, take them for the field that is judged.
 *
 * @throws {RequestError} body_invalid
 */
export function rejectSpellings(body: Json): void {
  const messages = [...list(body.messages), ...list(body.input)].filter(isRecord);
  const parts = messages
    .flatMap(({ content, output }) => [...list(content), ...list(output)])
    .filter(isRecord);
  for (const name of [body, ...messages, ...parts].flatMap(Object.keys)) {
    // There and back, as some letters have two small or two capital forms.
    const folded = name.toLowerCase().toUpperCase().toLowerCase();
    if (folded === name || !FIELDS.includes(folded)) continue;
    const message = `The request's field ${JSON.stringify(name)} must be spelled "${folded}".`;
    throw new RequestError(400, "body_invalid", message);
  }
}
