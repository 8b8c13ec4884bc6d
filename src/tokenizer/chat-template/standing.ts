import { invalid, type Message, plain } from "./messages.js";

/** Names in JSON schemas and tools that say nothing. */
const SCHEMA_WORDS = new Set(
  `type function custom name description parameters strict json_schema schema format grammar syntax definition properties
  required items prefixItems enum const title default examples additionalProperties patternProperties anyOf oneOf allOf not
  if then else $ref $defs $schema $id definitions pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf
  minLength maxLength minItems maxItems uniqueItems minProperties maxProperties nullable readOnly writeOnly deprecated
  content text`.split(/\s+/),
);
/** Types and formats that say nothing. */
export const TYPE_WORDS: ReadonlySet<string> = new Set(
  `json string number integer boolean object array null function custom text json_schema json_object grammar content
  summary_text reasoning_text reasoning.text reasoning.summary url_citation`.split(/\s+/),
);

/** Every text in a value, at any depth, and the names of its fields but for those that say nothing. */
export function textsIn(value: unknown): string[] {
  if (typeof value === "string") return value.trim() === "" ? [] : [value];
  if (Array.isArray(value)) return value.flatMap(textsIn);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, field]) => {
    const own = SCHEMA_WORDS.has(name) ? [] : textsIn(name);
    if (name === "type" && typeof field === "string" && TYPE_WORDS.has(field)) return own;
    return [...own, ...textsIn(field)];
  });
}

/** The texts of tool definitions, as a model's API is given them. @throws {InputError} MESSAGES_INVALID */
export function toolTexts(tools: readonly unknown[]): string[] {
  return textsIn(asJson(tools, "their tools"));
}

/** A value as a model's API is given it: what makes its own JSON says other things there than its fields do. @throws {InputError} MESSAGES_INVALID */
export function asJson(value: unknown, what: string): unknown {
  try {
    return plain(value);
  } catch (cause) {
    throw invalid(`${what} cannot be written as JSON, or are nested too deeply`, { cause });
  }
}

/**
 * Puts texts into the conversation as a turn that is ruled on with each request. Ahead of what is said, where it stays as
 * it was from turn to turn; it is read in windows of its own.
 */
export function withStanding<M extends Message>(
  messages: readonly M[],
  texts: readonly string[],
): (M | { role: "user"; content: string; standing: true })[] {
  if (texts.length === 0) return [...messages];
  const said = messages.findIndex(({ role }) => role !== "system" && role !== "developer");
  const turn = { role: "user", content: [...new Set(texts)].join("\n"), standing: true } as const;
  return messages.toSpliced(said === -1 ? messages.length : said, 0, turn as never);
}
