import { RequestError } from "../api-error.js";
import { isRecord, type Json } from "../json.js";

/** Deeper than any schema, and far from where recursion ends. */
const MOST_DEPTH = 128;

/** The body of a request that is judged. @throws {RequestError} body_not_json, encoding_unsupported, body_invalid */
export async function readBody(request: Request): Promise<Json> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type)) {
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
  if (!isShallow(body, MOST_DEPTH)) {
    const message = `The request's body is nested deeper than ${MOST_DEPTH} levels.`;
    throw new RequestError(400, "body_too_deep", message);
  }
  return body;
}

function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1));
}
