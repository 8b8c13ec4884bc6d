import { lines } from "../../gate/inputs/lines.js";
import { serverSentEvents } from "../../gate/sse.js";

/** An event as it came, not parsed yet. */
export interface RawEvent {
  /** Its name, where the media have names. */
  event?: string;
  data: string;
}

/** How the events of a stream are written on the wire. */
export interface Media {
  /** As the proxy sends them. */
  readonly contentType: string;
  /** Whether an answer of this content type is such a stream. */
  matches(contentType: string): boolean;
  events(chunks: AsyncIterable<Uint8Array>): AsyncIterable<RawEvent>;
}

export const EVENT_STREAM: Media = {
  contentType: "text/event-stream; charset=utf-8",
  matches: (contentType) => /^\s*text\/event-stream\b/i.test(contentType),
  events: serverSentEvents,
};

/** One JSON value a line. */
export const JSON_LINES: Media = {
  contentType: "application/x-ndjson",
  matches: (contentType) => /^\s*application\/(x-)?(ndjson|jsonl)\b/i.test(contentType),
  async *events(chunks) {
    for await (const { line } of lines(decoded(chunks))) yield { data: line };
  },
};

async function* decoded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const chunk of chunks) yield decoder.decode(chunk, { stream: true });
  yield decoder.decode();
}
