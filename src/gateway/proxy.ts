import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Outcome } from "../gate/gate-options.js";
import { ModerationViolation } from "../gate/violation.js";
import type { Guard } from "../guard.js";
import { type Policy, replacementOf, resolvePolicy } from "../moderation/policy.js";
import { mostBytes } from "../tokenizer/limits.js";
import { access } from "./access.js";
import { type Admission, AdmissionControl } from "./admission.js";
import { RequestError, toRequestError } from "./api-error.js";
import { policyAsked } from "./asked-policy.js";
import { AuditTrail } from "./audit/trail.js";
import type { Endpoint } from "./codec.js";
import type { Json } from "./json.js";
import { Metrics } from "./metrics.js";
import { ModeratedRequest } from "./moderated-request.js";
import { withInnerError } from "./openai/annotations.js";
import { moderations } from "./openai/moderations.js";
import type { ParsedRequest } from "./parsed-request.js";
import { PolicyTable } from "./policy-table.js";
import type { ProxyOptions } from "./proxy-options.js";
import { counted, RequestRecord } from "./record.js";
import { checkProxyMode } from "./regenerate/check.js";
import type { RegenerationOptions } from "./regenerate/regeneration.js";
import { seamFor } from "./regenerate/turn.js";
import { readBody } from "./request/body.js";
import { FieldReader, type Unjudged } from "./request/fields.js";
import { codecOf, type Route, Routes, spelledOut } from "./routes.js";
import { tenantOf } from "./tenant.js";
import { beginTrace } from "./tracing.js";
import { responseHeaders, Upstream } from "./upstream.js";

export type { ProxyOptions } from "./proxy-options.js";
export type { LogEntry } from "./record.js";

const NOT_HERE =
  "This proxy judges POST …/chat/completions, …/completions, …/responses, …/v1/messages, …/api/chat, …/api/generate " +
  "and …/moderations, and lets pass …/models and POST …/embeddings. Open another path with --allow-path.";
const UNAUDITED = "What is decided here cannot be written down now, so nothing is. Try again in a moment.";
/** They would lead past the guard. */
const REDIRECTIONS = [300, 301, 302, 303, 307, 308];
const MAX_BODY = 2 ** 20;
const MAX_BODY_WITH_ATTACHMENTS = 10 * 2 ** 20;
const TIMEOUT_SECONDS = 600;
const KEEP_ALIVE_SECONDS = 15;

/** An OpenAI-compatible API in front of another, with a guard between. `fetch` answers requests. */
export class GuardProxy {
  readonly metrics: Metrics;
  readonly #app = new Hono<Env>();
  readonly #guard: Guard;
  readonly #options: ProxyOptions;
  #policies: PolicyTable;
  readonly #upstream: Upstream;
  readonly #routes: Routes;
  readonly #admission: AdmissionControl;
  #draining = false;

  /** @throws {InputError} POLICY_INVALID, OPTION_INVALID */
  constructor(guard: Guard, options: ProxyOptions) {
    checkProxyMode(options);
    this.#guard = guard;
    this.#options = options;
    this.#policies = this.#tableOf(options.policies);
    this.#upstream = new Upstream(options.upstream);
    this.#routes = new Routes(options);
    const places = Math.min(options.maxStreams ?? guard.maxStreams, guard.maxStreams);
    this.#admission = new AdmissionControl(places, options.timeout ?? TIMEOUT_SECONDS);
    this.metrics = new Metrics(guard, () => this.streams, options.audit);

    const app = this.#app;
    app.use(async (c, next) => {
      const { pathname } = new URL(c.req.url);
      const route = this.#routes.of(c.req.method, pathname);
      c.set("route", route);
      c.set("record", this.#recordOf(c.req.raw, route));
      await next();
    });
    app.use(access(options));
    app.use((c, next) => bodyLimit({ maxSize: this.#maxBody(c.var.route), onError: tooLarge })(c, next));
    app.get("/healthz", (c) => {
      const { active, waiting } = guard.load;
      const status = this.#draining ? "draining" : options.audit?.unwritable ? "audit_unwritable" : "ok";
      return c.json({ status, active, waiting }, status === "ok" ? 200 : 503);
    });
    app.get("/metrics", async (c) => {
      const { registry } = this.metrics;
      return c.body(await (options.metrics?.() ?? registry.metrics()), 200, {
        "content-type": registry.contentType,
      });
    });
    app.all("*", (c) => this.#answer(c));
    app.onError((error, c) => this.#fail(error, c.var));
  }

  /** Choices being moderated. */
  get streams(): number {
    return this.#admission.taken;
  }

  readonly fetch = (request: Request): Response | Promise<Response> => this.#app.fetch(request);

  /**
   * Puts other policies in the place of those by model, path, key or header. Requests that are under way keep theirs.
   *
   * @throws {InputError} POLICY_INVALID: those that were there stay
   */
  usePolicies(policies: unknown): void {
    this.#policies = this.#tableOf(policies);
  }

  #recordOf(request: Request, { endpoint }: Route): RequestRecord {
    const record = new RequestRecord(request, endpoint);
    const { audit } = this.#options;
    if (audit?.unwritable) record.unaudited = true;
    else if (audit) record.watchers.push(new AuditTrail(audit, record, this.#guard.labels));
    return record;
  }

  #tableOf(policies: unknown): PolicyTable {
    const { labels } = this.#guard;
    return new PolicyTable(policies, labels, resolvePolicy(this.#options.policy, labels));
  }

  /** The policy that a request goes by, which the log names. */
  #policyOf({ url, headers }: Request, { model }: Json, record: RequestRecord): Policy {
    const { name, policy } = this.#policies.choose({
      path: spelledOut(new URL(url).pathname),
      model,
      headers,
    });
    record.policy = name;
    return policy;
  }

  /** Takes no more requests. */
  drain(): void {
    this.#draining = true;
  }

  /** Ends all requests that are under way. */
  abort(): void {
    this.#admission.abort(new RequestError(503, "shutting_down", "The proxy is shutting down."));
  }

  #maxBody({ kind }: Route): number {
    const { maxBody } = this.#options;
    if (maxBody !== undefined) return maxBody;
    if (this.#policies.attachments) return MAX_BODY_WITH_ATTACHMENTS;
    return kind === "judged" ? mostBytes(this.#guard) : MAX_BODY;
  }

  #answer({ req: { raw: request }, var: { route, record } }: Context<Env>): Promise<Response> {
    const begun = beginTrace(request, record);
    if (!begun) return this.#route(request, route, record);
    record.trace = begun;
    if (begun.watcher) record.watchers.push(begun.watcher);
    return begun.within(() => this.#route(request, route, record));
  }

  async #route(request: Request, route: Route, record: RequestRecord): Promise<Response> {
    if (this.#draining) throw new RequestError(503, "shutting_down", "The proxy is shutting down.");
    if (record.unaudited) throw new RequestError(503, "audit_unwritable", UNAUDITED);
    const { pathname, search } = new URL(request.url);
    const path = pathname + search;
    if (route.kind === "moderations") return this.#moderations(request, record);
    if (route.kind === "judged") return this.#moderate(request, record, route.judged, path);
    if (route.kind === "unjudged") return this.#pass(request, record, path);
    throw route.status === 405
      ? new RequestError(405, "method_refused", "This path is judged for POST alone.")
      : new RequestError(404, "path_refused", NOT_HERE);
  }

  /** What the guard has no part in. */
  async #pass(request: Request, record: RequestRecord, path: string): Promise<Response> {
    record.unjudged = ["path"];
    const { method, body, signal } = request;
    const headers = headersOf(request, record);
    const response = await this.#upstream.send(path, { method, headers, body, signal });
    if (REDIRECTIONS.includes(response.status)) {
      await response.body?.cancel();
      throw new RequestError(502, "upstream_redirects", "The model's server sends its clients elsewhere.");
    }
    this.#write(record, response.status, []);
    return new Response(response.body, { status: response.status, headers: responseHeaders(response) });
  }

  async #moderations(request: Request, record: RequestRecord): Promise<Response> {
    let admission: Admission | null = null;
    try {
      const body = await readBody(request);
      record.asked(body);
      const policy = this.#policyOf(request, body, record);
      admission = this.#admission.admit(1, request.signal);
      const answer = await moderations(body, this.#guard, policy, {
        signal: admission.signal,
        cacheKey: tenantOf(request),
        watchers: record.watchers,
      });
      this.#write(record, 200, []);
      return Response.json(answer);
    } finally {
      admission?.free();
    }
  }

  async #moderate(
    request: Request,
    record: RequestRecord,
    endpoint: Endpoint,
    path: string,
  ): Promise<Response> {
    let moderated: ModeratedRequest | null = null;
    let admission: Admission | null = null;
    try {
      const body = await readBody(request);
      record.asked(body, body.stream === true);
      const own = this.#policyOf(request, body, record);
      const reader = new FieldReader(own, this.#options.passFields);
      const parsed = endpoint.parse(body, reader);
      record.stream = parsed.stream;
      record.unjudged = reader.unjudged;
      admission = this.#admission.admit(parsed.choices.length, request.signal);
      const { moderation } = parsed;
      const policy = moderation ? policyAsked(own, moderation, this.#options.allowScore === true) : own;
      // The guard answers it.
      if (moderation) delete body.moderation;
      const headers = headersOf(request, record);
      moderated = new ModeratedRequest(endpoint, parsed, this.#guard, {
        policy,
        pace: this.#options,
        signal: admission.signal,
        onObserve: (finding) => this.metrics.found(finding),
        watchers: record.watchers,
        regenerate: this.#regenerate(headers, record, path, parsed, body),
        request: body,
        passFields: this.#options.passFields,
        cacheKey: tenantOf(request),
        annotations: this.#options.annotations === "azure" ? "azure" : parsed.moderation ? "openai" : null,
        errors: this.#options.errors,
        replacement: ({ category }) => replacementOf(own, category) ?? this.#options.replacement ?? null,
        keepAlive: this.#options.keepAlive ?? KEEP_ALIVE_SECONDS,
      });
      const response = await this.#forward(moderated, headers, path, parsed, body);
      void this.#conclude(moderated, record, response.status, admission);
      return response;
    } catch (error) {
      if (moderated && admission) {
        moderated.end();
        const denial = error instanceof ModerationViolation ? moderated.denial(error) : null;
        const status = denial?.status ?? toRequestError(error).status;
        void this.#conclude(moderated, record, status, admission, error);
        if (denial) return denial;
      } else admission?.free();
      throw error;
    }
  }

  async #forward(
    moderated: ModeratedRequest,
    headers: Headers,
    path: string,
    parsed: ParsedRequest,
    asked: Json,
  ): Promise<Response> {
    const prompts = moderated.promptsPass();
    prompts.catch(() => {});
    if (this.#options.promptFirst || parsed.promptFirst) await prompts;
    const answered = this.#ask(headers, path, asked, moderated.firstSignal);
    // Whatever becomes of the request, nobody waits for it once the prompt is blocked.
    answered.catch(() => {});
    const response = await Promise.race([answered, prompts.then(() => answered)]);
    await prompts;
    return moderated.answer(response);
  }

  /** Asks the model. */
  #ask(headers: Headers, path: string, asked: Json, signal: AbortSignal): Promise<Response> {
    headers.set("content-type", "application/json");
    // What was judged, not the text it was read from: of a field that comes twice, others may read the first.
    const body = JSON.stringify(asked);
    return this.#upstream.send(path, { method: "POST", headers, body, signal, plain: true });
  }

  /** How the answer is gone on with where it is flagged; null: it ends there. @throws {RequestError} regenerate_one_choice */
  #regenerate(
    headers: Headers,
    { endpoint }: RequestRecord,
    path: string,
    parsed: ParsedRequest,
    asked: Json,
  ): Omit<RegenerationOptions, "request" | "failed"> | null {
    const { mode, continue: server, regenerate } = this.#options;
    if (mode !== "regenerate" || !server) return null;
    const seam = seamFor(server, endpoint, asked, parsed);
    const send = (body: Json, signal: AbortSignal) => {
      // It is another request: under the same key a server may say again what it said to the first.
      headers.delete("idempotency-key");
      return this.#ask(headers, path, body, signal);
    };
    return seam && { ...regenerate, server, seam, send };
  }

  /** Waits for the request's end, then gives its places back and writes it down. */
  async #conclude(
    moderated: ModeratedRequest,
    record: RequestRecord,
    status: number,
    admission: Admission,
    error: unknown = null,
  ): Promise<void> {
    record.concludes = true;
    const outcomes = await moderated.outcomes;
    const { unjudged, leftOut, failure } = moderated;
    record.unjudged = [...record.unjudged, ...unjudged];
    record.leftOut = leftOut;
    admission.free();
    const cause = error ?? failure ?? outcomes.find((outcome) => outcome.error)?.error ?? null;
    this.#write(record, status, outcomes, cause, unjudged);
  }

  #fail(error: unknown, { route, record }: Env["Variables"]): Response {
    const failure = toRequestError(error);
    if (!record.concludes) this.#write(record, failure.status, [], error);
    const headers: Record<string, string> = {};
    if (failure.status === 429) headers["retry-after"] = "1";
    if (failure.status === 405) headers.allow = "POST";
    if (this.#options.annotations === "azure") withInnerError(failure, this.#guard.labels);
    return Response.json(codecOf(route).error(failure), { status: failure.status, headers });
  }

  #write(
    record: RequestRecord,
    status: number,
    outcomes: Outcome[],
    error: unknown = null,
    unjudged: readonly Unjudged[] = [],
  ): void {
    const entry = record.entry(status, outcomes, error, this.#options.logText === true);
    this.metrics.ended(entry, outcomes);
    const end = { entry, outcomes, error, unjudged: counted(unjudged) };
    for (const watcher of record.watchers) watcher.ended(end);
    this.#options.log?.(entry);
  }
}

interface Env {
  Variables: { route: Route; record: RequestRecord };
}

/** A request's headers as they go on: with the trace's, where there is one. */
function headersOf(request: Request, { trace }: RequestRecord): Headers {
  const headers = new Headers(request.headers);
  trace?.inject(headers);
  return headers;
}

function tooLarge(): never {
  throw new RequestError(413, "body_too_large", "The request is larger than this proxy takes (--max-body).");
}
