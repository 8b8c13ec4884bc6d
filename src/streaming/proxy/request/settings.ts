import { RequestError } from "../api-error.js";
import { type Json, record } from "../json.js";

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
