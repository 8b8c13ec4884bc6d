import { serverSentEvents } from "../sse.js";
import { EventText } from "./event-text.js";

/** The text of an API's event stream, as `curl -N` prints it. @throws {InputError} EVENT_INVALID */
export async function* sseText(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  const events = new EventText("an event stream");
  let number = 0;
  for await (const { data } of serverSentEvents(chunks)) {
    number++;
    if (data === "[DONE]") return;
    const text = events.of(data, `event ${number}`);
    if (text !== "") yield text;
  }
  if (number === 0) {
    // A body without any event is most often the API's error, in plain JSON.
    events.of("", "the input, which holds no event,");
  }
}
