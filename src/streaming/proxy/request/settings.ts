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
