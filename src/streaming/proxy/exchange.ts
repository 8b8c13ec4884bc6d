import { GuardError } from "../../errors.js";
import type { Guard } from "../../guard.js";
import type { Policy } from "../../moderation/policy.js";
import type { Finding } from "../../moderation/ruling.js";
import { Channel } from "../channel.js";
import { Gate, type Mode, type Outcome } from "../gate.js";
import type { Part } from "../held.js";
import { Reply } from "../reply.js";
import { serverSentEvents } from "../sse.js";
import { ModerationViolation } from "../violation.js";
import { RequestError, toRequestError } from "./api-error.js";
import type { Ask } from "./ask.js";
import type { Answer, Answers, Event, Place, Routed } from "./dialect.js";
import { isRecord, type Json } from "./json.js";
import { responseHeaders } from "./upstream.js";

type Released = Part<Event | Place>;

interface Lane {
  input: Channel<Released>;
  gate: Gate<Event | Place>;
}

export interface ExchangeOptions {
  policy: Policy;
  mode: Mode;
  /** Stops everything when it fires. */
  signal: AbortSignal;
  onObserve: (finding: Finding) => void;
  /** The request's body, as it was judged. */
  request: Json;
}

/**
 * One request on its way to the model and back: a gate for each choice, in which the prompt is judged while the model
 * is asked.
 */
export class Exchange {
  readonly #dialect: Answers;
  readonly #ask: Ask;
  readonly #controller = new AbortController();
  readonly #lanes: Lane[];
  readonly #encoder = new TextEncoder();
  #failure: RequestError | null = null;

  constructor(dialect: Answers, ask: Ask, guard: Guard, options: ExchangeOptions) {
    const { policy, signal, onObserve } = options;
    this.#dialect = dialect;
    this.#ask = ask;
    if (signal.aborted) this.abort(signal.reason);
    else {
      const abort = () => this.abort(signal.reason);
      signal.addEventListener("abort", abort);
      this.#controller.signal.addEventListener("abort", () => signal.removeEventListener("abort", abort));
    }
    this.#lanes = ask.choices.map(({ messages }) => {
      const input = new Channel<Released>();
      const gate = new Gate<Event | Place>(
        input,
        () => guard.stream({ messages, reasoning: true, overflow: "slide", scope: policy.prompt.scope }),
        {
          policy,
          // What comes at once goes out at once: nothing is gained by letting it pass first.
          mode: ask.stream ? options.mode : "hold-back",
          signal: this.#controller.signal,
          onObserve,
        },
      );
      gate.start();
      return { input, gate };
    });
  }

  /** Fires when nobody wants more from the model. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** How each choice ended. Never rejects. */
  get outcomes(): Promise<Outcome[]> {
    return Promise.all(this.#lanes.map(({ gate }) => gate.done));
  }

  /** What the model's server failed of, if it did; settled with the outcomes. */
  get failure(): RequestError | null {
    return this.#failure;
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason);
  }

  /** Frees everything that is still held. Idempotent. */
  end(): void {
    for (const { gate } of this.#lanes) void gate.return();
    this.abort(new GuardError("STREAM_CLOSED", "The request is over."));
  }

  /** Resolves when every prompt has passed. @throws what stopped one, or what the guard failed of */
  async promptsPass(): Promise<void> {
    for (const { gate } of this.#lanes) {
      const ruling = await gate.prompt;
      if (ruling?.violation === null) continue;
      const { violation, error } = await gate.done;
      throw violation ?? this.#reason(error);
    }
  }

  /** The answer to the client: what the model's server sent, moderated. @throws what the guard failed of, and RequestError */
  async answer(response: Response): Promise<Response> {
    const { status } = response;
    const headers = responseHeaders(response);
    if (status >= 400) {
      const body = await response.arrayBuffer();
      this.end();
      return new Response(body, { status, headers });
    }
    // A redirection would lead past the guard; the rest has no body.
    if (status < 200 || status >= 300) {
      throw new RequestError(502, "upstream_invalid", `The model's server answered with status ${status}.`);
    }
    if (!response.body) throw new RequestError(502, "upstream_invalid", "The model's server sent no body.");
    if (headers.get("content-type")?.toLowerCase().startsWith("text/event-stream")) {
      return new Response(this.#stream(response.body), { status, headers });
    }
    const whole = await response.json().catch((cause) => {
      throw new RequestError(502, "upstream_invalid", "The model's server sent no JSON.", { cause });
    });
    if (!isRecord(whole)) {
      throw new RequestError(502, "upstream_invalid", "The model's server sent no JSON object.");
    }
    const moderated = await this.#whole(whole);
    this.end();
    return Response.json(moderated, { status, headers });
  }

  /** The model's event stream, moderated. */
  #stream(body: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    // A client that leaves cancels the readable end.
    writer.closed.catch((error) => this.abort(error));
    void this.#relay(body, writer);
    return readable;
  }

  /** The model's whole answer, moderated. @throws what the guard failed of, and RequestError */
  async #whole(body: Json): Promise<Json> {
    if (!Array.isArray(body[this.#dialect.list])) {
      if (isRecord(body.error)) throw upstreamError(body.error);
      throw new RequestError(502, "upstream_invalid", `The model's answer has no ${this.#dialect.list}.`);
    }
    const texts = this.#dialect.whole(body, this.#ask);
    const violations = await Promise.all(
      this.#lanes.map(async ({ input, gate }, choice) => {
        const own = texts.filter((text) => text.choice === choice);
        void this.#fill(input, own, this.#ask.choices[choice].lead);
        const passed = own.map(() => "");
        try {
          for await (const part of gate) {
            if (part.kind === "text") passed[Number((part.tag as Place).field)] += part.text;
          }
          return null;
        } catch (error) {
          if (error instanceof ModerationViolation) {
            // With stream-first more has passed than was judged.
            let clear = error.span?.start ?? 0;
            for (const [i, text] of passed.entries()) {
              passed[i] = text.slice(0, clear);
              clear -= passed[i].length;
            }
            return error;
          }
          throw this.#reason(error);
        } finally {
          for (const [i, text] of own.entries()) text.set(passed[i]);
        }
      }),
    );
    if (violations.some((violation) => violation !== null)) this.#dialect.stopWhole(body, violations);
    return body;
  }

  async #fill(
    input: Channel<Released>,
    texts: { channel: "reasoning" | "content"; text: string }[],
    lead: string,
  ) {
    const reply = new Reply<Event | Place>(lead);
    for (const [i, { channel, text }] of texts.entries()) {
      for (const part of reply.text(channel, text, { field: String(i), base: {} })) await input.write(part);
    }
    input.close();
  }

  async #relay(
    body: AsyncIterable<Uint8Array>,
    writer: WritableStreamDefaultWriter<Uint8Array>,
  ): Promise<void> {
    const answer = this.#dialect.answer(this.#ask);
    const state = { terminated: false, last: null as Event | null, stopped: false };
    const reading = this.#read(body, answer, state);
    const lanes = this.#lanes.map(async ({ gate }, choice) => {
      try {
        for await (const part of gate) await this.#send(writer, answer, this.#event(answer, choice, part));
      } catch (error) {
        if (!(error instanceof ModerationViolation)) throw error;
        state.stopped = true;
        // When every choice was stopped, nobody needs more from the model.
        if (this.#lanes.every(({ input }) => input.left))
          this.abort(new GuardError("STREAM_CLOSED", "Stopped."));
        for (const event of answer.stop(choice, error)) await this.#send(writer, answer, event);
      }
    });
    try {
      await Promise.all(lanes);
      await reading;
      if (state.last) await this.#send(writer, answer, state.last);
      if ((state.terminated || state.stopped) && answer.terminator !== null) {
        await writer.write(this.#encoder.encode(`data: ${answer.terminator}\n\n`));
      }
      await writer.close();
    } catch (error) {
      const event = answer.fail(toRequestError(this.#reason(error)).body);
      await this.#send(writer, answer, event)
        .then(
          () => writer.close(),
          () => {},
        )
        .catch(() => {});
    } finally {
      this.end();
      await Promise.allSettled([...lanes, reading]);
    }
  }

  /** Reads the model's events into the gates. Never rejects: what fails is told to each gate, which passes it on. */
  async #read(
    body: AsyncIterable<Uint8Array>,
    answer: Answer,
    state: { terminated: boolean; last: Event | null },
  ): Promise<void> {
    let failure: { error: unknown } | undefined;
    try {
      for await (const { data } of serverSentEvents(body)) {
        if (data === "[DONE]") state.terminated = true;
        else for (const routed of answer.read(parse(data))) await this.#route(routed, state);
        if (state.terminated || this.#lanes.every(({ input }) => input.left)) break;
      }
    } catch (error) {
      failure = {
        error:
          error instanceof RequestError || this.signal.aborted
            ? error
            : new RequestError(502, "upstream_failed", "The model's stream broke off.", { cause: error }),
      };
    }
    for (const { input } of this.#lanes) input.close(failure);
  }

  async #route({ choice, part }: Routed, state: { last: Event | null }): Promise<void> {
    if (choice !== null) await this.#lanes[choice].input.write(part);
    else if (part.kind === "item") state.last = part.item as Event;
  }

  #event(answer: Answer, choice: number, part: Released): Event {
    if (part.kind === "text") return answer.write(choice, part.text, part.tag as Place);
    return (part.kind === "item" ? part.item : {}) as Event;
  }

  async #send(writer: WritableStreamDefaultWriter<Uint8Array>, answer: Answer, event: Event): Promise<void> {
    const name = answer.name(event);
    const head = name === null ? "" : `event: ${name}\n`;
    await writer.write(this.#encoder.encode(`${head}data: ${JSON.stringify(event)}\n\n`));
  }

  /** Why it ended, where the gates only know that it was aborted. */
  #reason(error: unknown): unknown {
    return this.signal.aborted && this.signal.reason instanceof RequestError ? this.signal.reason : error;
  }
}

function parse(data: string): Json {
  let event: unknown;
  try {
    event = JSON.parse(data);
  } catch (cause) {
    throw new RequestError(502, "upstream_invalid", "The model's stream holds an event that is not JSON.", {
      cause,
    });
  }
  if (!isRecord(event)) {
    throw new RequestError(
      502,
      "upstream_invalid",
      "The model's stream holds an event that is not an object.",
    );
  }
  if (isRecord(event.error) && !("choices" in event) && !("type" in event)) throw upstreamError(event.error);
  return event;
}

/** An error that the model's server tells of within its stream. */
function upstreamError(error: Json): RequestError {
  const message = typeof error.message === "string" ? error.message : "The model's server failed.";
  return new RequestError(502, String(error.code ?? "upstream_error"), message);
}
