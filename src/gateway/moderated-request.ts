import { setMaxListeners } from "node:events";
import { GuardError, InputError } from "../errors.js";
import type { Outcome } from "../gate/gate-options.js";
import type { ModerationViolation } from "../gate/violation.js";
import type { Guard } from "../guard.js";
import { answerHeaders } from "./answer/answer-headers.js";
import type { CodecOptions, ResponseCodec, StreamCodec } from "./answer/codec.js";
import type { Lane } from "./answer/lane.js";
import { lanesOf } from "./answer/lanes.js";
import { OpenFields } from "./answer/open-fields.js";
import { relay } from "./answer/relay.js";
import { ScoreKeeper } from "./answer/scores.js";
import { WholeRelay } from "./answer/whole-relay.js";
import { RequestError } from "./api-error.js";
import { denial } from "./denial.js";
import type { ModeratedRequestOptions } from "./moderated-request-options.js";
import { Regeneration } from "./regenerate/regeneration.js";
import type { Unjudged } from "./request/fields.js";
import type { ParsedRequest } from "./request/parsed-request.js";

/**
 * One request on its way to the model and back: a gate for each choice, in which the prompt is judged while the model
 * is asked.
 */
export class ModeratedRequest {
  readonly #codec: ResponseCodec;
  readonly #options: CodecOptions;
  readonly #controller = new AbortController();
  readonly #lanes: Lane[];
  readonly #whole: WholeRelay;
  readonly #keepAlive: number;
  readonly #regeneration: Regeneration | null;
  /** Fires when the answer to the first request is dropped. */
  readonly #first = new AbortController();
  #failure: RequestError | null = null;

  constructor(codec: ResponseCodec, parsed: ParsedRequest, guard: Guard, options: ModeratedRequestOptions) {
    const { policy, annotations } = options;
    const keepers = parsed.choices.map(() => (annotations ? new ScoreKeeper(guard.labels, policy) : null));
    this.#codec = codec;
    this.#options = codecOptions(parsed, options, keepers);
    this.#keepAlive = options.keepAlive ?? 0;
    this.#abortWith(options.signal);
    this.#regeneration = this.#regenerationOf(options.regenerate);
    this.#lanes = lanesOf(parsed, guard, options, {
      signal: this.#controller.signal,
      keepers,
      replaces: (violation) => this.#options.replacement(violation) !== null,
      regeneration: this.#regeneration,
      dropped: (reason) => this.#first.abort(reason),
    });
    this.#whole = new WholeRelay({
      codec,
      options: this.#options,
      lanes: this.#lanes,
      regeneration: this.#regeneration,
      signal: this.signal,
      reason: (error) => this.#answerReason(error),
    });
  }

  #abortWith(signal: AbortSignal): void {
    // Each choice listens to it, its gate and its stream.
    setMaxListeners(0, this.#controller.signal);
    const abort = () => this.abort(signal.reason);
    if (signal.aborted) abort();
    else {
      signal.addEventListener("abort", abort);
      this.#controller.signal.addEventListener("abort", () => signal.removeEventListener("abort", abort));
    }
  }

  /** Fires when nobody wants more from the model. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** As `signal`, for the first request: it fires also when its answer is dropped, and another goes on in its place. */
  get firstSignal(): AbortSignal {
    return this.#regeneration ? AbortSignal.any([this.signal, this.#first.signal]) : this.signal;
  }

  /** How each choice ended. Never rejects. */
  get outcomes(): Promise<Outcome[]> {
    return Promise.all(this.#lanes.map(({ gate }) => gate.done));
  }

  /** What the model's server failed of, if it did; settled with the outcomes. */
  get failure(): RequestError | null {
    return this.#failure;
  }

  /** What of the answer went on that nobody judged, so far: one entry a field's name. */
  get unjudged(): Unjudged[] {
    return [...this.#options.open.passed].map(() => "field");
  }

  /** How many names and types of the answer's were left out, as nobody knows them. */
  get leftOut(): number {
    return this.#options.open.left.size;
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
    const headers = answerHeaders(response.headers, this.#options.open);
    if (status >= 400 && status <= 599) {
      const error = await this.#whole.refusal(response);
      this.#failure = error;
      this.end();
      return Response.json(this.#codec.error(error), { status, headers });
    }
    // A redirection would lead past the guard; the rest has no body.
    if (status < 200 || status >= 300) {
      throw new RequestError(502, "upstream_invalid", `The model's server answered with status ${status}.`);
    }
    if (!response.body) throw new RequestError(502, "upstream_invalid", "The model's server sent no body.");
    const { media } = this.#codec;
    if (media.matches(response.headers.get("content-type") ?? "")) {
      headers.set("content-type", media.contentType);
      headers.set("cache-control", "no-cache");
      return new Response(this.#stream(response.body), { status, headers });
    }
    const moderated = await this.#whole.answer(response);
    this.end();
    return Response.json(moderated, { status, headers });
  }

  /** The model's event stream, moderated. */
  #stream(body: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    // A client that leaves cancels the readable end.
    writer.closed.catch((error) => this.abort(error));
    const { media } = this.#codec;
    void relay(body, this.#answer(), this.#lanes, writer, {
      media,
      keepAlive: this.#keepAlive,
      signal: this.signal,
      stop: () => this.abort(new GuardError("STREAM_CLOSED", "Stopped.")),
      end: () => this.end(),
      reason: (error) => this.#answerReason(error),
      failed: (failure) => {
        this.#failure = failure;
      },
      goesOn: this.#regeneration && {
        regeneration: this.#regeneration,
        codec: () => this.#answer(),
        signal: this.#first.signal,
      },
    });
    return readable;
  }

  /** The answer in the model's place, of a prompt that was stopped; null where there is none. */
  denial(violation: ModerationViolation): Response | null {
    return denial(violation, this.#codec, this.#options, () => this.#answer());
  }

  #answer(): StreamCodec {
    return this.#codec.stream(
      this.#options,
      this.#lanes.map(({ formatter }) => formatter),
    );
  }

  #regenerationOf(options: ModeratedRequestOptions["regenerate"]): Regeneration | null {
    if (!options) return null;
    const failed = (failure: RequestError) => {
      this.#failure = failure;
    };
    return new Regeneration({
      ...options,
      request: this.#options.request,
      send: (body, signal) => options.send(body, AbortSignal.any([signal, this.signal])),
      failed,
    });
  }

  /** Why it ended once the prompts have passed: a text that cannot be read is the server's then, not the client's. */
  #answerReason(error: unknown): unknown {
    if (!(error instanceof InputError) || !UNREADABLE.includes(error.code)) return this.#reason(error);
    const message = `The guard cannot read the model's answer: ${error.message}`;
    return new RequestError(502, error.code.toLowerCase(), message, { cause: error });
  }

  /** Why it ended, where the gates only know that it was aborted. */
  #reason(error: unknown): unknown {
    return this.signal.aborted && this.signal.reason instanceof RequestError ? this.signal.reason : error;
  }
}

function codecOptions(
  parsed: ParsedRequest,
  { policy, request, passFields = [], replacement, errors, annotations: style }: ModeratedRequestOptions,
  keepers: readonly (ScoreKeeper | null)[],
): CodecOptions {
  return {
    parsed,
    request,
    open: new OpenFields(passFields, policy.unjudged === "pass"),
    replacement: replacement ?? (() => null),
    errors,
    tools: policy.tools,
    ...(style && { annotations: { style, keepers: keepers.filter((keeper) => keeper !== null) } }),
  };
}

/** What is wrong with a text, whoever wrote it. */
const UNREADABLE = ["MARKS_TOO_MANY", "TEXT_UNSETTLED"];
