import { InputError } from "../../errors.js";
import { lines } from "./lines.js";

const FIELDS = ["text", "content", "delta", "token"];

/**
 * The text of JSON lines: each a string, or an object with its text as `text`, `content`, `delta` or `token`.
 *
 * @throws {InputError} LINE_INVALID
 */
export async function* jsonlText(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const { line, number } of lines(chunks)) {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (cause) {
      throw new InputError("LINE_INVALID", `Line ${number} is not JSON.`, { cause });
    }
    const fields = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
    const text = typeof value === "string" ? value : FIELDS.map((field) => fields[field]).find(isText);
    if (text === undefined) {
      throw new InputError(
        "LINE_INVALID",
        `Line ${number} holds no text. Write a JSON string, or an object with one of: ${FIELDS.join(", ")}.`,
      );
    }
    yield text;
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}
