import { InputError } from "../../errors.js";
import { serverSentEvents } from "../sse.js";
import { toldError } from "../told-error.js";
import { EventText, upstreamError } from "./event-text.js";

/** How much is kept of what is no event stream, for its error. Characters. */
const LONGEST_BODY = 2 ** 16;

/**
 * The text of an API's event stream, as `curl -N` prints it.
 *
 * @throws {InputError} EVENT_INVALID, EVENT_TOO_LONG, UPSTREAM_ERROR, UPSTREAM_CUT
 */
export async function* sseText(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  const events = new EventText("an event stream");
  let body = "";
  async function* kept() {
    for await (const chunk of chunks) {
      if (body.length < LONGEST_BODY) body += chunk.slice(0, LONGEST_BODY);
      yield chunk;
    }
  }
  let number = 0;
  for await (const { data, event } of serverSentEvents(kept())) {
    number++;
    if (data.trim() === "[DONE]") return;
    // Some servers keep the line alive so.
    if (data.trim() === "" && event !== "error") continue;
    const text = events.of(data, `event ${number}`, event);
    if (text !== "") yield text;
  }
  if (number === 0) throw noEvent(body);
  events.end();
}

/** A body without any event is most often the API's error, in plain JSON. */
function noEvent(body: string): InputError {
  try {
    const value: unknown = JSON.parse(body);
    const error = toldError(value) ?? toldError({ error: (value as { message?: unknown })?.message });
    if (error) return upstreamError("the input", error);
  } catch {}
  return new InputError(
    "EVENT_INVALID",
    "This is not an event stream as it should be: the input holds no event. Ask the API for a stream, and use curl -N.",
  );
}
