import { isRecord, type Json, record } from "../../validation/json.js";
import { RequestError } from "../api-error.js";

/** How many choices a request asks for. @throws {RequestError} invalid_n */
export function countOf(n: unknown): number {
  if (n === undefined || n === null) return 1;
  if (Number.isInteger(n) && Number(n) >= 1 && Number(n) <= 128) return Number(n);
  throw new RequestError(400, "invalid_n", "n must be a whole number from 1 to 128.");
}

/** Whether a request asks for a stream. @throws {RequestError} body_invalid */
export function streamOf(stream: unknown): boolean {
  if (stream === undefined || stream === null || typeof stream === "boolean") return stream === true;
  throw new RequestError(400, "body_invalid", "stream must be true or false.");
}

/** What a request wants done about what the guard finds: tell of it and pass, or stop. */
export type ModerationMode = "score" | "block";

/** Of a request's prompt, and of the answer to it; null: what the proxy's policy says. */
export interface AskedModeration {
  input: ModerationMode | null;
  output: ModerationMode | null;
}

/** OpenAI's `moderation`, which asks for scores; null where it does not. @throws {RequestError} body_invalid */
export function moderationAsked(value: unknown): AskedModeration | null {
  if (value === undefined || value === null) return null;
  const sides = isRecord(value) ? (value.policy ?? {}) : null;
  if (!isRecord(sides)) throw moderationInvalid();
  const mode = (side: unknown): ModerationMode | null => {
    if (side === undefined || side === null) return null;
    const asked = record(side).mode;
    if (asked === "score" || asked === "block") return asked;
    throw moderationInvalid();
  };
  return { input: mode(sides.input), output: mode(sides.output) };
}

function moderationInvalid(): RequestError {
  const message =
    'moderation must be as in OpenAI\'s API: { "model": …, "policy": { "input": { "mode": "score" } } }.';
  return new RequestError(400, "body_invalid", message);
}

/** Whether the answer is to be JSON, as the known servers are asked for it. */
export function asksForJson({ response_format, text, output_config, ...fields }: Json): boolean {
  const formats = [response_format, record(text).format, record(output_config).format].map((format) =>
    String(record(format).type),
  );
  const other = [
    ...["guided_json", "json_schema", "structured_outputs", "grammar", "format"],
    "output_format",
  ];
  return formats.some((type) => type.startsWith("json")) || other.some((name) => Boolean(fields[name]));
}
