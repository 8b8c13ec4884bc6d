import { InputError } from "../../errors.js";

/** More than any one line holds; beyond it the text has no lines. Characters. */
const LONGEST_LINE = 16 * 2 ** 20;

/**
 * Lines of a text, however it is cut; empty ones are left out.
 *
 * @throws {InputError} LINE_TOO_LONG
 */
export async function* lines(
  chunks: AsyncIterable<string>,
): AsyncGenerator<{ line: string; number: number }> {
  const begun: string[] = [];
  let length = 0;
  let number = 0;
  for await (const chunk of chunks) {
    const parts = chunk.split("\n");
    for (const [i, part] of parts.entries()) {
      if (i > 0) {
        number++;
        const line = begun.splice(0).join("");
        length = 0;
        if (line.trim() !== "") yield { line, number };
      }
      begun.push(part);
      length += part.length;
      if (length > LONGEST_LINE) {
        throw new InputError(
          "LINE_TOO_LONG",
          `Line ${number + 1} has more than ${LONGEST_LINE} characters. Write one JSON value a line, or use --input text.`,
        );
      }
    }
  }
  const line = begun.join("");
  if (line.trim() !== "") yield { line, number: number + 1 };
}
