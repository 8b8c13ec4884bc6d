import { isRecord, type Json } from "../../validation/json.js";
import { RequestError } from "../api-error.js";

/** Deeper than any schema, and far from where recursion ends. */
const MOST_DEPTH = 128;
/** More than the messages and tools that a guard reads have: each takes time in which nothing else runs. */
const MOST_VALUES = 1 << 15;

/** The body of a request that is judged. @throws {RequestError} body_not_json, encoding_unsupported, body_invalid, body_too_deep, body_too_many_values */
export async function readBody(request: Request): Promise<Json> {
  const type = request.headers.get("content-type") ?? "";
  // Some clients of Ollama's say nothing. A web page cannot keep its Origin to itself.
  const unsaid = type === "" && !request.headers.has("origin");
  if (!unsaid && !/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type)) {
    const message = "The request must be JSON, and say so: Content-Type: application/json.";
    throw new RequestError(415, "body_not_json", message);
  }
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding.toLowerCase() !== "identity") {
    throw new RequestError(415, "encoding_unsupported", "The request's body must not be compressed.");
  }
  return parse(await request.text());
}

function parse(text: string): Json {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new RequestError(400, "body_invalid", "The request's body is not JSON.", { cause });
  }
  if (!isRecord(body))
    throw new RequestError(400, "body_invalid", "The request's body must be a JSON object.");
  checkShape(body);
  return body;
}

/** @throws {RequestError} body_too_deep, body_too_many_values */
function checkShape(body: Json): void {
  let values = 0;
  const visit = (value: unknown, depth: number): void => {
    if (++values > MOST_VALUES) {
      const message = `The request's body holds more than ${MOST_VALUES} values.`;
      throw new RequestError(400, "body_too_many_values", message);
    }
    if (typeof value !== "object" || value === null) return;
    if (depth === 0) {
      const message = `The request's body is nested deeper than ${MOST_DEPTH} levels.`;
      throw new RequestError(400, "body_too_deep", message);
    }
    for (const inner of Object.values(value)) visit(inner, depth - 1);
  };
  visit(body, MOST_DEPTH);
}
