import { InputError } from "../../errors.js";
import { lines } from "./lines.js";

const FIELDS = ["text", "content", "delta", "token"];

/**
 * The text of JSON lines: each a string, or an object with its text as `text`, `content`, `delta` or `token`. Where
 * several of these hold text, all of it counts, in this order; the same twice counts once.
 *
 * @throws {InputError} LINE_INVALID, LINE_TOO_LONG
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
    const held = typeof value === "string" ? [value] : FIELDS.map((field) => fields[field]);
    const texts = held.filter((text) => typeof text === "string");
    if (texts.length === 0) {
      throw new InputError(
        "LINE_INVALID",
        `Line ${number} holds no text. Write a JSON string, or an object with one of: ${FIELDS.join(", ")}.`,
      );
    }
    yield [...new Set(texts)].join("");
  }
}
