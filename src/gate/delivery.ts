import { GuardError, InputError } from "../errors.js";
import { checkOptions, oneOf } from "../validation/options.js";
import type { Outcome } from "./gate-options.js";

/**
 * text: the text itself; a violation breaks the stream off, unless there is a replacement.
 * events: server-sent events, `{"text": …}` each, and at the end one that says how it ended: `{"end": "complete"}`,
 * `{"end": "flagged", "violation": …}`, `{"end": "failed", "code": …}`.
 */
export type Delivery = "text" | "events";

export interface ResponseOptions extends ResponseInit {
  /** Default "text". */
  as?: Delivery;
}

/** What is delivered: a moderated stream. */
interface Moderated {
  readonly done: Promise<Outcome>;
  next(): Promise<IteratorResult<string | number[], undefined>>;
  return(): Promise<unknown>;
}

const HEADERS: Record<Delivery, Record<string, string>> = {
  // Browsers would hold the first text back to guess its type.
  text: { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" },
  events: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" },
};

/** What a reader is sent. Its `return` does not wait for a `next` under way, as a generator's would. */
export function delivered(stream: Moderated, as: Delivery = "text"): AsyncIterableIterator<string> {
  checkOptions({ as }, "a moderated stream", { as: oneOf("text", "events") });
  let over = false;
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      if (over) return { done: true, value: undefined };
      if (as === "events") {
        const event = await nextEvent(stream);
        over = "end" in event;
        return { done: false, value: `data: ${JSON.stringify(event)}\n\n` };
      }
      const { done, value } = await stream.next();
      if (done) return { done, value };
      if (typeof value === "string") return { done: false, value };
      throw new InputError(
        "OPTION_INVALID",
        'Ids are no text: send them as "events", or as you like by yourself.',
      );
    },
    async return() {
      over = true;
      await stream.return();
      return { done: true, value: undefined };
    },
  };
}

/** As a response of the Web's. A reader who leaves stops the model, also before anything was read. */
export function responseOf(stream: Moderated, { as = "text", ...init }: ResponseOptions = {}): Response {
  const chunks = delivered(stream, as);
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
      async cancel() {
        await chunks.return?.();
      },
    },
    { highWaterMark: 0 },
  );
  const headers = new Headers(HEADERS[as]);
  new Headers(init.headers).forEach((value, name) => {
    headers.set(name, value);
  });
  return new Response(body, { ...init, headers });
}

async function nextEvent(stream: Moderated): Promise<object> {
  try {
    const { done, value } = await stream.next();
    if (!done) return typeof value === "string" ? { text: value } : { ids: value };
  } catch {
    // How it ended says it.
  }
  const { end, violation, error } = await stream.done;
  // Messages may quote; codes do not.
  const code = error instanceof GuardError ? error.code : "SOURCE_FAILED";
  return { end, ...(violation && { violation }), ...(end === "failed" && { code }) };
}
