import { GuardError } from "../../errors.js";
import type { Attempt } from "../../gate/attempt.js";
import type { Channel } from "../../gate/channel.js";
import { ModerationViolation } from "../../gate/violation.js";
import { isRecord, type Json } from "../../validation/json.js";
import { RequestError, toRequestError } from "../api-error.js";
import type { Regeneration } from "../regenerate/regeneration.js";
import type { Sent } from "../regenerate/seam.js";
import { errorIn, UpstreamError } from "../upstream-error.js";
import { invalid, Slot } from "./allow-list.js";
import type { Event, Released, Routed, StreamCodec, TextTarget } from "./codec.js";
import { EventWriter } from "./event-writer.js";
import type { Lane } from "./lane.js";
import type { Media } from "./media.js";

interface Context {
  media: Media;
  /** Seconds without a word after which the client is told that there is one to come; 0: it never is. */
  keepAlive: number;
  /** Fires when nobody wants more. */
  signal: AbortSignal;
  /** Called when every choice was stopped. */
  stop(): void;
  /** Called when nothing more goes to the client: whoever still reads or judges is to end. */
  end(): void;
  /** Why it ended, where the gates only know that it was aborted. */
  reason(error: unknown): unknown;
  /** Called with what the model's server failed of; null: that was of an answer that is gone on with. */
  failed(failure: RequestError | null): void;
  /** How the answer of the one choice is gone on with where it is flagged; null: it ends there. */
  goesOn: GoesOn | null;
}

interface GoesOn {
  regeneration: Regeneration;
  /** Reads an answer that goes on. */
  codec(): StreamCodec;
  /** Of the first request: fires when its answer is dropped. */
  signal: AbortSignal;
}

/** One of the model's streams, on its way into the gates. */
interface Reading {
  codec: StreamCodec;
  inputs: Channel<Released>[];
  /** Fires when it is dropped: whatever becomes of it then is nobody's failure. */
  signal: AbortSignal | null;
}

/** Relays a model's event stream through the gates of its choices. Never rejects. */
export async function relay(
  body: AsyncIterable<Uint8Array>,
  answer: StreamCodec,
  lanes: Lane[],
  writer: WritableStreamDefaultWriter<Uint8Array>,
  context: Context,
): Promise<void> {
  const client = new EventWriter(writer, answer);
  client.keepOpen(context.keepAlive);
  const stream = new Relay(answer, lanes, client, context);
  const opening = stream.open();
  const reading = stream.read(body);
  lanes[0].again = (attempt, signal) => stream.again(attempt, signal);
  const sending = lanes.map(async (_, choice) => {
    await opening;
    await stream.send(choice);
  });
  try {
    await Promise.all(sending);
    await reading;
    await stream.end();
  } catch (error) {
    await stream.fail(error).catch(() => {});
  }
  client.silence();
  context.end();
  await Promise.allSettled([...sending, reading, ...stream.continuations]);
}

class Relay {
  readonly #answer: StreamCodec;
  readonly #lanes: Lane[];
  readonly #client: EventWriter;
  readonly #context: Context;
  /** The event that tells of all choices, after everything else. */
  #last: Event | null = null;
  #terminated = false;
  /** Choices that were stopped. */
  #stopped = 0;
  #failure: RequestError | null = null;
  /** What goes on with the answer. */
  readonly continuations: Promise<void>[] = [];
  /** Where the server's own words of its failure come out, once they are judged. */
  readonly #quote = new Slot("", "content");
  /** Whose gate judges it. */
  #quoting: Lane | undefined;

  constructor(answer: StreamCodec, lanes: Lane[], client: EventWriter, context: Context) {
    this.#answer = answer;
    this.#lanes = lanes;
    this.#client = client;
    this.#context = context;
  }

  /** Reads the model's events into the gates. Never rejects: what fails is told to each gate, which passes it on. */
  async read(body: AsyncIterable<Uint8Array>, reading = this.#first()): Promise<void> {
    const { codec, inputs, signal } = reading;
    try {
      await this.#events(body, reading);
      const open = inputs.findIndex((input, choice) => !input.left && !codec.ended(choice));
      if (open >= 0 && !this.#terminated) {
        throw new RequestError(502, "upstream_failed", "The model's stream ended before its answer did.");
      }
      for (const input of inputs) input.close();
    } catch (cause) {
      if (!signal?.aborted) await this.#close(cause, inputs);
    }
  }

  #first(): Reading {
    const inputs = this.#lanes.map(({ input }) => input);
    return { codec: this.#answer, inputs, signal: this.#context.goesOn?.signal ?? null };
  }

  /** Has the answer gone on with from what the client has. Never rejects. */
  again(attempt: Attempt, signal: AbortSignal): void {
    this.continuations.push(this.#goOn(attempt, signal, this.#lanes[0].input));
  }

  async #goOn(attempt: Attempt, signal: AbortSignal, input: Channel<Released>): Promise<void> {
    const { goesOn, media } = this.#context;
    try {
      // What the server said of its failure is none of the answer, and cannot be gone on from.
      if (!goesOn || this.#quoting) throw attempt.violation;
      this.#fails(null);
      const { regeneration, codec } = goesOn;
      const response = await regeneration.ask(attempt, signal, media);
      regeneration.seam.next(this.#answer.sent as Sent, regeneration.repeated);
      this.#terminated = false;
      await this.read(response.body as ReadableStream<Uint8Array>, {
        codec: codec(),
        inputs: [input],
        signal,
      });
    } catch (error) {
      input.close({ error });
    }
  }

  /** Sends what comes before the answer. */
  async open(): Promise<void> {
    for (const event of this.#answer.opening?.() ?? []) await this.#client.write(event);
  }

  /** Hands on what passes of a choice. */
  async send(choice: number): Promise<void> {
    const lane = this.#lanes[choice];
    try {
      for await (const part of lane.passed()) await this.#hand(part, lane.formatter);
    } catch (error) {
      if (error === this.#failure) return;
      if (!(error instanceof ModerationViolation)) throw error;
      this.#stopped++;
      // With stream-first it may have come out before it was judged.
      if (lane === this.#quoting) this.#quote.text = "";
      if (this.#lanes.every(({ input }) => input.left)) this.#context.stop();
      for (const event of this.#answer.stop(choice, error)) await this.#client.write(event);
    }
  }

  async end(): Promise<void> {
    this.#client.silence();
    // Where every choice was stopped, that the stream ended early takes nothing from the client.
    const over = this.#stopped === this.#lanes.length && !(this.#failure instanceof UpstreamError);
    if (this.#failure && !over) throw this.#failure;
    for (const event of this.#answer.closing?.() ?? []) await this.#client.write(event);
    if (this.#last) await this.#client.write(this.#last);
    if (this.#terminated || this.#stopped > 0) await this.#client.terminate();
    await this.#client.close();
  }

  async fail(error: unknown): Promise<void> {
    this.#client.silence();
    const failure = toRequestError(this.#context.reason(error));
    if (failure instanceof UpstreamError && this.#quote.text === failure.quote && failure.quote !== "")
      failure.tell();
    await this.#client.write(this.#answer.fail(failure));
    await this.#client.close();
  }

  async #events(body: AsyncIterable<Uint8Array>, { codec, inputs }: Reading): Promise<void> {
    const seam = this.#context.goesOn?.regeneration.seam;
    for await (const { event: name, data } of this.#context.media.events(body)) {
      const said = data.trim();
      if (said === "[DONE]") this.#terminated = true;
      else if (said !== "" || name === "error") {
        const sent = parse(said, name);
        for (const event of seam ? seam.join(sent) : [sent]) {
          for (const routed of codec.read(event)) await this.#route(routed, inputs);
        }
      }
      if (this.#terminated || inputs.every(({ left }) => left)) return;
    }
  }

  /** Ends the gates' input with what failed, after all that came before. */
  async #close(cause: unknown, inputs: readonly Channel<Released>[]): Promise<void> {
    const error =
      cause instanceof RequestError || this.#context.signal.aborted
        ? cause
        : cause instanceof GuardError
          ? invalid("texts that the guard cannot read", { cause })
          : new RequestError(502, "upstream_failed", "The model's stream broke off.", { cause });
    if (error instanceof RequestError && !this.#context.signal.aborted) {
      this.#fails(error);
    }
    if (error instanceof UpstreamError && error.quote !== "") {
      this.#quoting = this.#lanes.find(({ input }) => !input.left);
      await this.#quoting?.quote(this.#quote, error.quote).catch(() => {});
    }
    for (const input of inputs) input.close({ error });
  }

  /** Null: what an answer that is dropped failed of is dropped with it. */
  #fails(failure: RequestError | null): void {
    this.#failure = failure;
    this.#context.failed(failure);
  }

  async #route({ choice, part }: Routed, inputs: readonly Channel<Released>[]): Promise<void> {
    if (choice !== null) await this.#lanes[choice].take(part, inputs[choice]);
    else if (part.kind === "item") this.#last = part.item as Event;
  }

  async #hand(part: Released, formatter: Lane["formatter"]): Promise<void> {
    if (part.kind === "item") await this.#client.write(part.item as Event);
    else if (part.kind === "text") {
      const text = formatter.source(part);
      if (part.tag instanceof Slot) part.tag.text += text;
      else await this.#client.write((part.tag as TextTarget).write(text));
    }
  }
}

/** An event's object. @throws {RequestError} where it is none, or tells of an error */
function parse(data: string, name: string | undefined): Json {
  let event: unknown;
  try {
    event = JSON.parse(data);
  } catch (cause) {
    if (name === "error") event = { error: data || "unknown" };
    else throw invalid("an event that is not JSON", { cause });
  }
  if (!isRecord(event)) {
    if (name === "error") event = { error: String(event) };
    else throw invalid("an event that is not an object");
  }
  const error = errorIn(event as Json, name);
  if (error) throw error;
  return event as Json;
}
