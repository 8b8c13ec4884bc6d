import { chunk, sse } from "./upstream.js";

/** A protocol as its servers and clients use it: a request, answers by text, and what a client reads of them. */
export interface Protocol {
  path: string;
  contentType: string;
  request(question: string, stream: boolean): object;
  /** Bytes of a streamed answer, an event each. */
  stream(texts: string[]): string[];
  whole(text: string): object;
  textOf(whole: never): string;
  /** What of a stream has come. */
  read(raw: string): { text: string; failed: boolean };
}

const EVENTS = "text/event-stream";
const messages = (content: string) => [{ role: "user", content }];
const named = (event: { type: string }) => `event: ${event.type}\n${sse(event)}`;
const line = (event: object) => `${JSON.stringify(event)}\n`;

type Parsed = Record<string, never> & { type?: string; error?: unknown };

/** Whole events alone: what a reader left in the middle of is none. */
function reader(ending: string, textOf: (event: Parsed) => unknown) {
  return (raw: string) => {
    const events = raw
      .split(ending)
      .slice(0, -1)
      .map((event) => event.slice(event.indexOf("{")))
      .filter((event) => event.startsWith("{"))
      .map((event): Parsed => JSON.parse(event));
    const failed = events.some(({ type, error }) => type === "error" || type === "response.failed" || error);
    return { text: events.map((event) => textOf(event) ?? "").join(""), failed };
  };
}

const completion = (text: string, finish_reason: string | null = null) => ({
  id: "c",
  object: "text_completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, text, finish_reason, logprobs: null }],
});

const response = (status: string, output: object[] = []) => ({ id: "r", object: "response", status, output });
const outputItem = (text: string) => ({
  id: "i",
  type: "message",
  role: "assistant",
  status: "completed",
  content: [{ type: "output_text", text, annotations: [] }],
});

const claude = {
  id: "msg",
  type: "message",
  role: "assistant",
  model: "m",
  stop_reason: null as string | null,
  stop_sequence: null,
  usage: { input_tokens: 1, output_tokens: 1 },
};

const ollama = { model: "m", created_at: "2026-11-26T10:00:00Z" };

export const PROTOCOLS: Protocol[] = [
  {
    path: "/v1/chat/completions",
    contentType: EVENTS,
    request: (question, stream) => ({ model: "m", stream, messages: messages(question) }),
    stream: (texts) => [...texts.map((content) => chunk({ content })), chunk({}, "stop"), "[DONE]"].map(sse),
    whole: (content) => ({
      id: "c",
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
    }),
    textOf: ({ choices }: { choices: { message: { content: string } }[] }) => choices[0].message.content,
    read: reader(
      "\n\n",
      ({ choices }) => (choices as { delta: { content?: string } }[])?.[0]?.delta?.content,
    ),
  },
  {
    path: "/v1/completions",
    contentType: EVENTS,
    request: (prompt, stream) => ({ model: "m", stream, prompt }),
    stream: (texts) => [...texts.map((text) => completion(text)), completion("", "stop"), "[DONE]"].map(sse),
    whole: (text) => completion(text, "stop"),
    textOf: ({ choices }: { choices: { text: string }[] }) => choices[0].text,
    read: reader("\n\n", ({ choices }) => (choices as { text: string }[])?.[0]?.text),
  },
  {
    path: "/v1/responses",
    contentType: EVENTS,
    request: (input, stream) => ({ model: "m", stream, input }),
    stream(texts) {
      const at = { item_id: "i", output_index: 0, content_index: 0 };
      const text = texts.join("");
      return [
        { type: "response.created", response: response("in_progress") },
        { type: "response.output_item.added", output_index: 0, item: { ...outputItem(""), content: [] } },
        {
          type: "response.content_part.added",
          ...at,
          part: { type: "output_text", text: "", annotations: [] },
        },
        ...texts.map((delta) => ({ type: "response.output_text.delta", ...at, delta })),
        { type: "response.output_text.done", ...at, text },
        { type: "response.output_item.done", output_index: 0, item: outputItem(text) },
        { type: "response.completed", response: response("completed", [outputItem(text)]) },
      ].map((event, sequence_number) => named(Object.assign(event, { sequence_number })));
    },
    whole: (text) => response("completed", [outputItem(text)]),
    textOf: ({ output }: { output: { content: { text: string }[] }[] }) => output[0].content[0].text,
    read: reader("\n\n", ({ type, delta }) => (type === "response.output_text.delta" ? delta : "")),
  },
  {
    path: "/v1/messages",
    contentType: EVENTS,
    request: (question, stream) => ({ model: "m", max_tokens: 100, stream, messages: messages(question) }),
    stream: (texts) =>
      [
        { type: "message_start", message: { ...claude, content: [] } },
        { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
        ...texts.map((text) => ({
          type: "content_block_delta",
          index: 0,
          delta: { type: "text_delta", text },
        })),
        { type: "content_block_stop", index: 0 },
        { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 1 } },
        { type: "message_stop" },
      ].map(named),
    whole: (text) => ({ ...claude, content: [{ type: "text", text }], stop_reason: "end_turn" }),
    // Of an answer that was stopped at its first word no block is left.
    textOf: ({ content }: { content: { text: string }[] }) => content[0]?.text ?? "",
    read: reader("\n\n", ({ delta }) => (delta as { text?: string })?.text),
  },
  {
    path: "/api/chat",
    contentType: "application/x-ndjson",
    request: (question, stream) => ({ model: "m", stream, messages: messages(question) }),
    stream: (texts) => [
      ...texts.map((content) => line({ ...ollama, message: { role: "assistant", content }, done: false })),
      line({ ...ollama, message: { role: "assistant", content: "" }, done: true, done_reason: "stop" }),
    ],
    whole: (content) => ({
      ...ollama,
      message: { role: "assistant", content },
      done: true,
      done_reason: "stop",
    }),
    textOf: ({ message }: { message: { content: string } }) => message.content,
    read: reader("\n", ({ message }) => (message as { content?: string })?.content),
  },
  {
    path: "/api/generate",
    contentType: "application/x-ndjson",
    request: (prompt, stream) => ({ model: "m", stream, prompt }),
    stream: (texts) => [
      ...texts.map((response) => line({ ...ollama, response, done: false })),
      line({ ...ollama, response: "", done: true, done_reason: "stop" }),
    ],
    whole: (response) => ({ ...ollama, response, done: true, done_reason: "stop" }),
    textOf: ({ response }: { response: string }) => response,
    read: reader("\n", ({ response }) => response),
  },
];
