import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { ClosedError, GuardError } from "../../errors.js";
import type { Guard } from "../../guard.js";
import { type PolicyData, resolvePolicy } from "../../moderation/policy.js";
import type { Finding } from "../../moderation/ruling.js";
import type { Mode, Outcome } from "../gate.js";
import { ModerationViolation } from "../violation.js";
import { RequestError, toRequestError } from "./api-error.js";
import type { Dialect } from "./dialect.js";
import { ENDPOINTS } from "./endpoints.js";
import { Exchange } from "./exchange.js";
import { isRecord, type Json } from "./json.js";
import { Metrics, type RequestEnd } from "./metrics.js";
import { moderations } from "./moderations.js";
import { rejectSpellings } from "./spelling.js";
import { responseHeaders, Upstream } from "./upstream.js";

export interface ProxyOptions {
  /** Address of an OpenAI-compatible API, with or without `/v1`. */
  upstream: string;
  /** Default: DEFAULT_POLICY. */
  policy?: PolicyData;
  /** Default "hold-back". */
  mode?: Mode;
  /** Asks the model only once the prompt has passed. Default false: both at once. */
  promptFirst?: boolean;
  /** What happens to paths that are not judged. Default "pass". */
  otherPaths?: "pass" | "refuse";
  /** Fields of answers, by name, that pass unread wherever the proxy does not know them. Default: none. */
  passFields?: readonly string[];
  /** Choices moderated at once; more are answered with 429. At most, and by default, the guard's `maxStreams`. */
  maxStreams?: number;
  /** Bytes of a request. Default 10 MiB. */
  maxBody?: number;
  /** Seconds that a request may take. Default 600. */
  timeout?: number;
  /** One entry a request. Default: none are kept. */
  log?: (entry: LogEntry) => void;
  /** Whether entries hold the text of what was flagged. Default false. */
  logText?: boolean;
}

export interface LogEntry {
  time: string;
  requestId: string;
  endpoint: string;
  model: string | null;
  stream: boolean;
  end: RequestEnd;
  /** HTTP status sent. */
  status: number;
  ms: number;
  promptMs: number | null;
  tokens: number;
  violations: object[];
  observed: object[];
  /** Code and message of what went wrong. */
  error: { code: string; message: string } | null;
}

const MAX_BODY = 10 * 2 ** 20;
const TIMEOUT_SECONDS = 600;

/** An OpenAI-compatible API in front of another, with a guard between. `fetch` answers requests. */
export class GuardProxy {
  readonly metrics: Metrics;
  readonly #app = new Hono();
  readonly #guard: Guard;
  readonly #options: ProxyOptions;
  readonly #policy;
  readonly #upstream: Upstream;
  readonly #maxStreams: number;
  readonly #underway = new Set<AbortController>();
  #streams = 0;
  #draining = false;

  /** @throws {InputError} POLICY_INVALID */
  constructor(guard: Guard, options: ProxyOptions) {
    this.#guard = guard;
    this.#options = options;
    this.#policy = resolvePolicy(options.policy, guard.labels);
    this.#upstream = new Upstream(options.upstream);
    this.#maxStreams = Math.min(options.maxStreams ?? guard.maxStreams, guard.maxStreams);
    this.metrics = new Metrics(guard, () => this.#streams);

    const app = this.#app;
    app.use(
      bodyLimit({
        maxSize: options.maxBody ?? MAX_BODY,
        onError: (c) => {
          const failure = new RequestError(
            413,
            "body_too_large",
            "The request is larger than this proxy takes.",
          );
          this.#write(new RequestRecord(c.req.raw), failure.status, [], failure);
          throw failure;
        },
      }),
    );
    app.get("/healthz", (c) =>
      c.json({ status: this.#draining ? "draining" : "ok", ...guard.load }, this.#draining ? 503 : 200),
    );
    app.get("/metrics", async (c) => {
      const { registry } = this.metrics;
      return c.body(await registry.metrics(), 200, { "content-type": registry.contentType });
    });
    app.all("*", (c) => this.#answer(c.req.raw));
    app.onError((error) => errorResponse(toRequestError(error)));
  }

  /** Choices being moderated. */
  get streams(): number {
    return this.#streams;
  }

  readonly fetch = (request: Request): Response | Promise<Response> => this.#app.fetch(request);

  /** Takes no more requests. */
  drain(): void {
    this.#draining = true;
  }

  /** Ends all requests that are under way. */
  abort(): void {
    const reason = new RequestError(503, "shutting_down", "The proxy is shutting down.");
    for (const controller of this.#underway) controller.abort(reason);
  }

  async #answer(request: Request): Promise<Response> {
    if (this.#draining) throw new RequestError(503, "shutting_down", "The proxy is shutting down.");
    const { pathname, search } = new URL(request.url);
    const endpoint = endpointOf(pathname);
    if (request.method === "POST" && endpoint === "/moderations") return this.#moderations(request);
    const dialect = request.method === "POST" ? ENDPOINTS[endpoint] : undefined;
    if (dialect) return this.#moderate(request, dialect, pathname + search);
    if (this.#options.otherPaths === "refuse") {
      throw new RequestError(404, "path_refused", "This proxy lets through only what it judges.");
    }
    const response = await this.#upstream.send(pathname + search, {
      method: request.method,
      headers: request.headers,
      body: request.body,
      signal: request.signal,
    });
    return new Response(response.body, { status: response.status, headers: responseHeaders(response) });
  }

  async #moderations(request: Request): Promise<Response> {
    const record = new RequestRecord(request);
    let place: Place | null = null;
    try {
      const body = parse(await request.text());
      record.ask(body);
      place = this.#admit(1, request.signal);
      const answer = await moderations(body, this.#guard, this.#policy, place.signal);
      this.#write(record, 200, []);
      return Response.json(answer);
    } catch (error) {
      const failure = toRequestError(error);
      this.#write(record, failure.status, [], error);
      throw failure;
    } finally {
      place?.free();
    }
  }

  async #moderate(request: Request, dialect: Dialect, path: string): Promise<Response> {
    const record = new RequestRecord(request);
    let exchange: Exchange | null = null;
    let place: Place | null = null;
    try {
      const body = parse(await request.text());
      rejectSpellings(body);
      const ask = dialect.ask(body, this.#policy);
      record.ask(body, ask.stream);
      place = this.#admit(ask.choices.length, request.signal);
      exchange = new Exchange(dialect, ask, this.#guard, {
        policy: this.#policy,
        mode: this.#options.mode ?? "hold-back",
        signal: place.signal,
        onObserve: (finding) => this.metrics.found(finding),
        request: body,
        passFields: this.#options.passFields,
      });
      const response = await this.#exchange(exchange, request, path, body);
      void this.#conclude(exchange, record, response.status, place);
      return response;
    } catch (error) {
      const failure = toRequestError(error);
      if (exchange && place) {
        exchange.end();
        void this.#conclude(exchange, record, failure.status, place, error);
      } else {
        place?.free();
        this.#write(record, failure.status, [], error);
      }
      throw failure;
    }
  }

  async #exchange(exchange: Exchange, request: Request, path: string, asked: Json): Promise<Response> {
    const prompts = exchange.promptsPass();
    prompts.catch(() => {});
    if (this.#options.promptFirst) await prompts;
    const { method, headers } = request;
    // What was judged, not the text it was read from: of a field that comes twice, others may read the first.
    const body = JSON.stringify(asked);
    const answered = this.#upstream.send(path, { method, headers, body, signal: exchange.signal });
    // Whatever becomes of the request, nobody waits for it once the prompt is blocked.
    answered.catch(() => {});
    const response = await Promise.race([answered, prompts.then(() => answered)]);
    await prompts;
    return exchange.answer(response);
  }

  /** Takes places for so many choices, until the request is over or its time is. @throws {RequestError} too_many_streams */
  #admit(count: number, signal: AbortSignal): Place {
    if (count > this.#maxStreams) {
      const limit = `this proxy judges ${this.#maxStreams} at once`;
      throw new RequestError(400, "too_many_choices", `${count} choices are asked for, and ${limit}.`);
    }
    if (this.#streams + count > this.#maxStreams) {
      throw new RequestError(429, "too_many_streams", "All places are taken. Try again in a moment.");
    }
    this.#streams += count;
    const controller = new AbortController();
    this.#underway.add(controller);
    const seconds = this.#options.timeout ?? TIMEOUT_SECONDS;
    const late = () =>
      controller.abort(new RequestError(504, "timeout", `The request took longer than ${seconds} seconds.`));
    const timer = setTimeout(late, seconds * 1000);
    return {
      signal: AbortSignal.any([signal, controller.signal]),
      free: () => {
        if (!this.#underway.delete(controller)) return;
        clearTimeout(timer);
        this.#streams -= count;
      },
    };
  }

  /** Waits for the exchange's end, then gives its places back and writes it down. */
  async #conclude(
    exchange: Exchange,
    record: RequestRecord,
    status: number,
    place: Place,
    error: unknown = null,
  ): Promise<void> {
    const outcomes = await exchange.outcomes;
    place.free();
    this.#write(
      record,
      status,
      outcomes,
      error ?? exchange.failure ?? outcomes.find((outcome) => outcome.error)?.error ?? null,
    );
  }

  #write(record: RequestRecord, status: number, outcomes: Outcome[], error: unknown = null): void {
    const violations = outcomes.flatMap(({ violation }) => violation ?? []);
    const ms = performance.now() - record.startedAt;
    const promptMs = outcomes[0]?.stats.promptMs ?? null;
    const tokens = outcomes.reduce((sum, { stats }) => sum + stats.tokens, 0);
    const entry: LogEntry = {
      time: new Date().toISOString(),
      requestId: record.id,
      endpoint: record.endpoint,
      model: record.model,
      stream: record.stream,
      end: endOf(status, outcomes, error),
      status,
      ms: Math.round(ms),
      promptMs: promptMs && Math.round(promptMs),
      tokens,
      violations: violations.map((violation) => ({
        ...violation.toJSON(),
        ...(this.#options.logText && { text: violation.span?.text ?? null }),
      })),
      observed: outcomes.flatMap(({ observed }) => observed.map(note)),
      error: error === null || error instanceof ModerationViolation ? null : told(error),
    };
    const { metrics } = this;
    metrics.requests.inc({ endpoint: entry.endpoint, end: entry.end });
    metrics.requestSeconds.observe({ endpoint: entry.endpoint }, ms / 1000);
    if (promptMs !== null) metrics.promptSeconds.observe(promptMs / 1000);
    metrics.tokens.inc(tokens);
    for (const { stats } of outcomes) metrics.waitedSeconds.inc(stats.waitedForGuardMs / 1000);
    for (const { finding } of violations) metrics.found(finding);
    this.#options.log?.(entry);
  }
}

/** What a request holds while it is moderated. */
interface Place {
  /** Fires when the client leaves, time is up, or the proxy shuts down. */
  signal: AbortSignal;
  /** Idempotent. */
  free(): void;
}

class RequestRecord {
  readonly startedAt = performance.now();
  readonly endpoint: string;
  readonly id: string;
  model: string | null = null;
  stream = false;

  constructor(request: Request) {
    this.endpoint = endpointOf(new URL(request.url).pathname);
    this.id = request.headers.get("x-request-id") ?? crypto.randomUUID();
  }

  ask({ model }: Json, stream = false): void {
    this.model = typeof model === "string" ? model : null;
    this.stream = stream;
  }
}

/** Stands for every path that is not judged. */
const OTHER = "other";

/**
 * The judged endpoint that a path stands for, whatever comes before it: spelled as a lenient server would still take it,
 * so that no spelling gets past the guard.
 */
function endpointOf(pathname: string): string {
  let path = pathname;
  for (let i = 0; i < 3; i++) {
    path = path.replace(/%([0-7][0-9a-f])/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
  }
  path = path
    .toLowerCase()
    .replace(/[?#].*$/, "")
    .replace(/[/\\]+/g, "/")
    .replace(/;[^/]*/g, "")
    .replace(/\s+$/, "");
  // Once more as an address: what was encoded may have held "..".
  path = new URL(path, "http://localhost").pathname.replace(/\/+$/, "");
  const found = [...Object.keys(ENDPOINTS), "/moderations"].find((endpoint) => path.endsWith(endpoint));
  return found ?? OTHER;
}

function endOf(status: number, outcomes: Outcome[], error: unknown): RequestEnd {
  if (outcomes.some(({ violation }) => violation?.part === "prompt")) return "blocked";
  if (outcomes.some(({ violation }) => violation)) return "flagged";
  if (status === 400 || status === 413 || status === 429) return "refused";
  if (status >= 400) return "failed";
  const cause = error instanceof ClosedError ? error.cause : error;
  if (outcomes.some(({ end }) => end === "failed") || cause instanceof RequestError) return "failed";
  return outcomes.some(({ end }) => end === "cancelled") ? "cancelled" : "passed";
}

function note({ part, risk, riskProbability, category, index }: Finding): object {
  return { part, risk, riskProbability, category, index };
}

function told(error: unknown): { code: string; message: string } {
  const cause = error instanceof ClosedError && error.cause instanceof RequestError ? error.cause : error;
  if (cause instanceof RequestError) return { code: cause.body.error.code, message: cause.message };
  if (cause instanceof GuardError) return { code: cause.code.toLowerCase(), message: cause.message };
  return { code: "internal_error", message: cause instanceof Error ? cause.message : String(cause) };
}

function errorResponse(error: RequestError): Response {
  const headers = error.status === 429 ? { "retry-after": "1" } : undefined;
  return Response.json(error.body, { status: error.status, headers });
}

function parse(text: string): Json {
  try {
    const body: unknown = JSON.parse(text);
    if (isRecord(body)) return body;
  } catch (cause) {
    throw new RequestError(400, "body_invalid", "The request's body is not JSON.", { cause });
  }
  throw new RequestError(400, "body_invalid", "The request's body must be a JSON object.");
}
