import type { Message } from "../tokenizer/messages.js";

/** A name, a type, a reference, a figure: nothing that is read as text. */
const IDENTIFIER = /^[\w$.#/:@-]{1,64}$/;

/**
 * The texts in data that a model reads beside its messages, such as definitions of tools and the schema of its answer:
 * every string, key or value, at any depth, that is more than a name. In order, each once.
 *
 * @param opaque names of fields whose values are not looked into
 */
export function textsIn(data: unknown, opaque: readonly string[] = []): string[] {
  const texts = new Set<string>();
  const rest: unknown[] = [data];
  while (rest.length > 0) {
    const value = rest.pop();
    if (typeof value === "string" && value.trim() !== "" && !IDENTIFIER.test(value)) texts.add(value);
    if (typeof value !== "object" || value === null) continue;
    const inside = Array.isArray(value)
      ? value
      : Object.entries(value).flatMap(([name, field]) => (opaque.includes(name) ? [] : [name, field]));
    for (let i = inside.length - 1; i >= 0; i--) rest.push(inside[i]);
  }
  return [...texts];
}

/**
 * Puts texts that stand beside a conversation into it, as a turn of their own ahead of the last user's, so that they are
 * ruled on before every answer; behind the last assistant's message where the user's is further back.
 */
export function withTextsBeside(messages: readonly Message[], texts: readonly string[]): Message[] {
  if (texts.length === 0) return [...messages];
  const roles = messages.map(({ role }) => role);
  // An assistant's message at the end begins the answer itself.
  const answered = roles.slice(0, -1).lastIndexOf("assistant") + 1;
  const other = roles.findIndex((role) => role !== "system");
  const system = other === -1 ? roles.length : other;
  const at = Math.max(system, answered, roles.lastIndexOf("user"));
  return messages.toSpliced(at, 0, { role: "user", content: texts.join("\n\n") });
}
