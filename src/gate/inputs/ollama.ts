import { EventText } from "./event-text.js";
import { lines } from "./lines.js";

/**
 * The text of what Ollama's `/api/chat` and `/api/generate` stream.
 *
 * @throws {InputError} EVENT_INVALID, UPSTREAM_ERROR, UPSTREAM_CUT, LINE_TOO_LONG
 */
export async function* ollamaText(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  const events = new EventText("Ollama's stream");
  for await (const { line, number } of lines(chunks)) {
    const text = events.of(line, `line ${number}`);
    if (text !== "") yield text;
  }
  events.end();
}
