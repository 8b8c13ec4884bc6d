import { setMaxListeners } from "node:events";
import { GuardError, InputError } from "../errors.js";
import type { BatchOptions } from "../gate/batches.js";
import type { Mode, Outcome, Release } from "../gate/gate-options.js";
import type { ModerationViolation } from "../gate/violation.js";
import type { Guard } from "../guard.js";
import type { Policy } from "../moderation/policy.js";
import type { Finding } from "../moderation/ruling.js";
import type { Prompt } from "../prompt.js";
import { type ScoutChoice, scoutFor } from "../scouting.js";
import { Slot } from "./allow-list.js";
import { answerHeaders } from "./answer-headers.js";
import { RequestError } from "./api-error.js";
import type { CodecOptions, ResponseCodec, StreamCodec, WholeAnswer } from "./codec.js";
import { denial } from "./denial.js";
import { isRecord, type Json } from "./json.js";
import { Lane } from "./lane.js";
import { once } from "./once.js";
import { OpenFields } from "./open-fields.js";
import type { Annotations } from "./openai/annotations.js";
import type { ParsedRequest } from "./parsed-request.js";
import { readText } from "./read-text.js";
import { Regeneration, type RegenerationOptions } from "./regenerate/regeneration.js";
import { relay } from "./relay.js";
import type { Unjudged } from "./request/fields.js";
import { asksForJson } from "./request/settings.js";
import { ScoreKeeper } from "./scores.js";
import { errorIn, refusal, type UpstreamError } from "./upstream-error.js";
import { WatchedChoice } from "./watched-choice.js";
import type { Watcher } from "./watcher.js";

/** Bytes of a whole answer, and of a refusal. */
const MOST_ANSWER = 64 * 2 ** 20;
const MOST_REFUSAL = 64 * 2 ** 10;

export interface ModeratedRequestOptions {
  policy: Policy;
  /** Of streams. */
  pace: Pace;
  /** Stops everything when it fires. */
  signal: AbortSignal;
  onObserve: (finding: Finding) => void;
  /** Are told what becomes of the choices. Default: none. */
  watchers?: readonly Watcher[];
  /** The request's body, as it was judged. */
  request: Json;
  /** Names of fields that pass unread, where no table knows them. Default: none. */
  passFields?: readonly string[];
  /** Whose the request is. */
  cacheKey: string;
  /** What answers in the model's place where the policy stops it. Default: nothing. */
  replacement?: (violation: ModerationViolation) => string | null;
  /** Tells of prompt and answer beside them. Default: nothing is told. */
  annotations?: Annotations["style"] | null;
  /** How a stream says that it was stopped. Default: as its protocol does. */
  errors?: CodecOptions["errors"];
  /** How the answer is gone on with where it is flagged. Default: it ends there. */
  regenerate?: Omit<RegenerationOptions, "request" | "failed"> | null;
  /** Seconds without a word after which a stream's client is told that there is one to come. Default 0: it never is. */
  keepAlive?: number;
}

/** How text of a stream leaves, and when it is judged; what comes at once is held back. */
export interface Pace {
  mode?: Mode | "regenerate";
  release?: Release;
  batch?: BatchOptions;
  scout?: ScoutChoice;
}

/**
 * One request on its way to the model and back: a gate for each choice, in which the prompt is judged while the model
 * is asked.
 */
export class ModeratedRequest {
  readonly #codec: ResponseCodec;
  readonly #options: CodecOptions;
  readonly #controller = new AbortController();
  readonly #lanes: Lane[];
  readonly #keepAlive: number;
  readonly #regeneration: Regeneration | null;
  /** Fires when the answer to the first request is dropped. */
  readonly #first = new AbortController();
  #failure: RequestError | null = null;

  constructor(codec: ResponseCodec, parsed: ParsedRequest, guard: Guard, options: ModeratedRequestOptions) {
    const { policy, signal, onObserve, request, passFields = [], cacheKey } = options;
    this.#codec = codec;
    this.#options = {
      parsed,
      request,
      open: new OpenFields(passFields, policy.unjudged === "pass"),
      replacement: options.replacement ?? (() => null),
      errors: options.errors,
      tools: policy.tools,
    };
    const style = options.annotations ?? null;
    const keepers = parsed.choices.map(() => (style ? new ScoreKeeper(guard.labels, policy) : null));
    if (style) {
      this.#options.annotations = { style, keepers: keepers.filter((keeper) => keeper !== null) };
    }
    this.#keepAlive = options.keepAlive ?? 0;
    // Each choice listens to it, its gate and its stream.
    setMaxListeners(0, this.#controller.signal);
    if (signal.aborted) this.abort(signal.reason);
    else {
      const abort = () => this.abort(signal.reason);
      signal.addEventListener("abort", abort);
      this.#controller.signal.addEventListener("abort", () => signal.removeEventListener("abort", abort));
    }
    const { mode, release, batch, scout } = options.pace;
    const { scope } = policy.prompt;
    const prompts = new Map(
      parsed.choices.map(({ messages }) => [
        messages,
        once(() => guard.prompt({ messages, reasoning: true, scope, overflow: "slide", cacheKey })),
      ]),
    );
    const { watchers = [] } = options;
    this.#regeneration = this.#regenerationOf(options.regenerate);
    const replaces = (violation: ModerationViolation) => this.#options.replacement(violation) !== null;
    this.#lanes = parsed.choices.map(({ messages, prefill }, choice) => {
      const begun = { messages, policy, replaces };
      const watched = watchers.length > 0 ? new WatchedChoice(watchers, choice, begun) : null;
      const lane = new Lane(
        prefill,
        asksForJson(request),
        () => {
          const prompt = (prompts.get(messages) as () => Prompt)();
          const restarts = this.#regeneration !== null;
          const stream = guard.stream({ prompt, overflow: "slide", cacheKey, ...(restarts && { restarts }) });
          const kept = keepers[choice]?.watch(stream) ?? stream;
          return watched?.stream(kept) ?? kept;
        },
        {
          policy,
          // What comes at once goes out at once: nothing is gained by letting it pass first.
          ...(parsed.stream && { mode: mode === "regenerate" ? "hold-back" : mode, release, batch }),
          signal: this.#controller.signal,
          onObserve: (finding) => {
            watched?.observed(finding);
            onObserve(finding);
          },
        },
        parsed.stream ? scoutFor(guard, scout, { messages, reasoning: true, scope, cacheKey }) : null,
        watched,
        this.#regeneration,
      );
      lane.dropped = (reason) => this.#first.abort(reason);
      watched?.follow(lane.gate);
      return lane;
    });
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
    if (status >= 400 && status <= 599) return this.#refuse(response, headers);
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
    const moderated = await this.#whole(parse(await this.#read(response, MOST_ANSWER)));
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

  /** The model's whole answer, moderated. */
  async #whole(body: Json): Promise<Json> {
    const error = errorIn(body);
    if (error) throw await this.#quoted(error);
    const answer = this.#codec.whole(body, this.#options);
    this.#goOnWhole(answer);
    const violations = await Promise.all(
      this.#lanes.map((lane, choice) => this.#judge(lane, answer.slots[choice])),
    );
    if (violations.some((violation) => violation !== null)) answer.stop(violations);
    const { annotations } = this.#options;
    return annotations ? this.#codec.annotate(answer.body, annotations) : answer.body;
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

  /** Has a whole answer gone on with where it is flagged. */
  #goOnWhole(answer: WholeAnswer): void {
    const regeneration = this.#regeneration;
    const [lane] = this.#lanes;
    const [slot] = answer.slots[0];
    if (!regeneration || answer.slots[0].length !== 1 || !regeneration.seam.isText(answer.body)) return;
    lane.slot = slot;
    lane.again = (attempt, signal) => {
      const { input } = lane;
      const gone = async () => {
        const response = await regeneration.ask(attempt, signal);
        const more = this.#codec.whole(parse(await this.#read(response, MOST_ANSWER)), this.#options);
        const [own] = more.slots[0] as (Slot | undefined)[];
        if (more.slots[0].length > 1 || !regeneration.seam.isText(more.body))
          regeneration.giveUp(attempt, ".");
        regeneration.seam.joinWhole(answer.body, more.body);
        const { repeated } = regeneration;
        // It may have nothing to add.
        await lane.write(slot, repeated.push(own?.text ?? "") + repeated.end(), input);
      };
      gone().then(
        () => input.close(),
        (error) => input.close({ error }),
      );
    };
  }

  /** The server's refusal: its status, and of its body what an error may hold. */
  async #refuse(response: Response, headers: Headers): Promise<Response> {
    const { status } = response;
    const type = response.headers.get("content-type") ?? "";
    const text = await this.#read(response, MOST_REFUSAL).catch(() => "");
    const error = await this.#quoted(refusal(status, text, type));
    this.#failure = error;
    this.end();
    return Response.json(this.#codec.error(error), { status, headers });
  }

  /** An error with the server's own words, where the guard lets them pass. */
  async #quoted(error: UpstreamError): Promise<UpstreamError> {
    if (error.quote === "") return error;
    const slot = new Slot(error.quote, "content");
    try {
      if ((await this.#judge(this.#lanes[0], [slot])) === null) error.tell();
    } catch {
      // Without a guard the words are left out; the failure is told all the same.
    }
    return error;
  }

  async #judge(lane: Lane, slots: Slot[]): ReturnType<Lane["judge"]> {
    try {
      return await lane.judge(slots);
    } catch (error) {
      throw this.#answerReason(error);
    }
  }

  async #read(response: Response, most: number): Promise<string> {
    try {
      return await readText(response, most);
    } catch (cause) {
      if (cause instanceof RequestError) throw cause;
      if (this.signal.aborted) throw this.#reason(cause);
      throw new RequestError(502, "upstream_failed", "The model's answer broke off.", { cause });
    }
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

/** What is wrong with a text, whoever wrote it. */
const UNREADABLE = ["MARKS_TOO_MANY", "TEXT_UNSETTLED"];

function parse(text: string): Json {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new RequestError(502, "upstream_invalid", "The model's server sent no JSON.", { cause });
  }
  if (!isRecord(body)) {
    throw new RequestError(502, "upstream_invalid", "The model's server sent no JSON object.");
  }
  return body;
}
