import type { Mode } from "../../src/gate/gate-options.js";
import { JSON_LINES } from "../../src/gateway/answer/media.js";
import { type RequestError, toRequestError } from "../../src/gateway/api-error.js";
import { ENDPOINTS } from "../../src/gateway/endpoints.js";
import { ModeratedRequest } from "../../src/gateway/moderated-request.js";
import type { PolicyData } from "../../src/moderation/policy.js";
import { policyOf, scriptedGuard } from "../gate/scripted.js";

export const CHAT = "/chat/completions";
export const COMPLETIONS = "/completions";
export const RESPONSES = "/responses";
export const MESSAGES = "/v1/messages";
export const OLLAMA_CHAT = "/api/chat";
export const OLLAMA_GENERATE = "/api/generate";

interface Options {
  policy?: PolicyData;
  mode?: Mode;
  /** Choices asked for. */
  n?: number;
  passFields?: string[];
  /** More of the request. */
  request?: object;
  status?: number;
  /** Media type. */
  type?: string;
  headers?: Record<string, string>;
  /** A stream's bytes, in pieces. Default: those of the answer. */
  bytes?: readonly Uint8Array[];
}

/** What a client gets for what a model's server answers, without a network between. */
export async function answered(endpoint: string, answer: string | object | object[], options: Options = {}) {
  const stream = Array.isArray(answer);
  const { n = 1, status = 200, mode = "hold-back" } = options;
  const { media } = ENDPOINTS[endpoint];
  const write = media === JSON_LINES ? jsonLines : sse;
  const body = typeof answer === "string" ? answer : stream ? write(answer) : JSON.stringify(answer);
  const type = options.type ?? (stream ? media.contentType : "application/json");
  const { guard, streams } = scriptedGuard();
  const moderated = new ModeratedRequest(
    ENDPOINTS[endpoint],
    { choices: Array(n).fill({ messages: [], prefill: "" }), stream: media.matches(type) },
    guard,
    {
      policy: policyOf(options.policy),
      pace: { mode },
      signal: new AbortController().signal,
      onObserve: () => {},
      request: { model: "m", stream, ...options.request },
      passFields: options.passFields,
      cacheKey: "",
    },
  );
  const headers = { "content-type": type, ...options.headers };
  // Some statuses have no body, which a Response then must not be given.
  const sentBody = options.bytes ? ReadableStream.from(options.bytes) : body;
  const response = new Response([204, 205, 304].includes(status) ? null : sentBody, { status, headers });
  const sent = await moderated.answer(response).then(seen, failed);
  moderated.end();
  const outcomes = await moderated.outcomes;
  return {
    ...sent,
    outcomes,
    failure: moderated.failure ?? sent.error,
    unjudged: moderated.unjudged,
    judged: streams.map(({ pushes }) => pushes.join("")),
  };
}

/** A text/event-stream's text; strings among the events are lines as they are. */
export function sse(events: (object | string)[]): string {
  return events
    .map((event) => (typeof event === "string" ? `${event}\n\n` : `data: ${JSON.stringify(event)}\n\n`))
    .join("");
}

/** Strings among the events are for event streams alone. */
function jsonLines(events: (object | string)[]): string {
  return events.map((event) => (typeof event === "string" ? "" : `${JSON.stringify(event)}\n`)).join("");
}

export const DONE = "data: [DONE]";

async function seen(response: Response) {
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, error: null, ...parsed(text) };
}

function failed(error: unknown) {
  const failure = toRequestError(error) as RequestError;
  const text = JSON.stringify(failure.body);
  return { status: failure.status, headers: new Headers(), text, error: failure, ...parsed(text) };
}

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into at will
function parsed(text: string): { json: any; events: any[] } {
  const events = [...text.matchAll(/^(?:data: )?(\{.*)$/gm)].map(([, json]) => JSON.parse(json));
  return { json: text.startsWith("{") ? events[0] : null, events };
}
