import { createParser, type EventSourceMessage } from "eventsource-parser";
import { InputError } from "../errors.js";

/** More than any one event holds; beyond it the stream is no event stream. Characters. */
const LONGEST_EVENT = 16 * 2 ** 20;

/**
 * The events of a server-sent event stream, cut anywhere, with any line ends; comments are skipped. A line `error: …`,
 * which some servers write and no specification knows, is an event with that name.
 */
export async function* serverSentEvents(
  chunks: AsyncIterable<Uint8Array | string>,
): AsyncGenerator<EventSourceMessage> {
  const events: EventSourceMessage[] = [];
  const parser = createParser({
    onEvent: (event) => events.push(event),
    onError: ({ type, field, value = "" }) => {
      if (type === "unknown-field" && field === "error") events.push({ event: "error", data: value });
    },
  });
  const decoder = new TextDecoder();
  let pending = 0;
  for await (const chunk of chunks) {
    const text = typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true });
    parser.feed(text);
    pending = events.length > 0 ? 0 : pending + text.length;
    if (pending > LONGEST_EVENT) {
      throw new InputError("EVENT_TOO_LONG", "The event stream holds an event that does not end.");
    }
    yield* events.splice(0);
  }
  // A last event whose blank line got lost counts: it holds text.
  parser.feed(`${decoder.decode()}\n\n`);
  yield* events;
}
