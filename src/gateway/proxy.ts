import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Guard } from "../guard.js";
import { type Policy, resolvePolicy } from "../moderation/policy.js";
import { mostBytes } from "../tokenizer/limits.js";
import type { Json } from "../validation/json.js";
import { access } from "./access/access.js";
import { type Admission, AdmissionControl } from "./access/admission.js";
import { codecOf, type Route, Routes, spelledOut } from "./access/routes.js";
import { tenantOf } from "./access/tenant.js";
import { RequestError, toRequestError } from "./api-error.js";
import { Moderator } from "./moderator.js";
import { withInnerError } from "./openai/annotations.js";
import { moderations } from "./openai/moderations.js";
import { PolicyTable } from "./policies/policy-table.js";
import type { ProxyOptions } from "./proxy-options.js";
import { Ledger, requireAudited } from "./record/ledger.js";
import { Metrics } from "./record/metrics.js";
import type { RequestRecord } from "./record/record.js";
import { addStatus } from "./record/status.js";
import { checkProxyMode } from "./regenerate/check.js";
import { readBody } from "./request/body.js";
import { headersOf, responseHeaders, Upstream } from "./upstream.js";

export type { ProxyOptions } from "./proxy-options.js";
export type { LogEntry } from "./record/record.js";

const NOT_HERE =
  "This proxy judges POST …/chat/completions, …/completions, …/responses, …/v1/messages, …/api/chat, …/api/generate " +
  "and …/moderations, and lets pass …/models and POST …/embeddings. Open another path with --allow-path.";
/** They would lead past the guard. */
const REDIRECTIONS = [300, 301, 302, 303, 307, 308];
const MAX_BODY = 2 ** 20;
const MAX_BODY_WITH_ATTACHMENTS = 10 * 2 ** 20;
const TIMEOUT_SECONDS = 600;

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
  readonly #ledger: Ledger;
  readonly #moderator: Moderator;
  #draining = false;
  #aborted = false;

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
    this.#ledger = new Ledger(this.metrics, guard.labels, options);
    this.#moderator = new Moderator({
      ...{ guard, options, upstream: this.#upstream, admission: this.#admission },
      ...{ metrics: this.metrics, ledger: this.#ledger },
      policyOf: (request, body, record) => this.#policyOf(request, body, record),
    });

    const app = this.#app;
    app.use(async (c, next) => {
      const { pathname } = new URL(c.req.url);
      const route = this.#routes.of(c.req.method, pathname);
      c.set("route", route);
      c.set("record", this.#ledger.open(c.req.raw, route.endpoint));
      await next();
    });
    app.use(access(options));
    app.use((c, next) => bodyLimit({ maxSize: this.#maxBody(c.var.route), onError: tooLarge })(c, next));
    addStatus(app, {
      ...{ guard, metrics: this.metrics, pooled: options.metrics, audit: options.audit },
      isDraining: () => this.#draining,
    });
    app.all("*", ({ req: { raw }, var: { route, record } }) =>
      this.#ledger.within(raw, record, () => this.#route(raw, route, record)),
    );
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

  /** Says that it takes no more. A request that comes all the same, on a connection that was taken before, is answered. */
  drain(): void {
    this.#draining = true;
  }

  /** Ends all requests that are under way, and refuses others. */
  abort(): void {
    this.#aborted = true;
    this.#admission.abort(new RequestError(503, "shutting_down", "The proxy is shutting down."));
  }

  #maxBody({ kind }: Route): number {
    const { maxBody } = this.#options;
    if (maxBody !== undefined) return maxBody;
    if (this.#policies.attachments) return MAX_BODY_WITH_ATTACHMENTS;
    return kind === "judged" ? mostBytes(this.#guard) : MAX_BODY;
  }

  async #route(request: Request, route: Route, record: RequestRecord): Promise<Response> {
    if (this.#aborted) throw new RequestError(503, "shutting_down", "The proxy is shutting down.");
    requireAudited(record);
    const { pathname, search } = new URL(request.url);
    const path = pathname + search;
    if (route.kind === "moderations") return this.#moderations(request, record);
    if (route.kind === "judged") return this.#moderator.answer(request, record, route.judged, path);
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
    this.#ledger.close(record, response.status);
    // Through a stream that reads it from now on: the body of a fetched response that is collected is cancelled, where nobody
    // has begun to read it, and a refusal waits until its client has sent all.
    const passing = response.body?.pipeThrough(new TransformStream<Uint8Array, Uint8Array>()) ?? null;
    return new Response(passing, { status: response.status, headers: responseHeaders(response) });
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
        record,
      });
      this.#ledger.close(record, 200);
      return Response.json(answer);
    } finally {
      admission?.free();
    }
  }

  #fail(error: unknown, { route, record }: Env["Variables"]): Response {
    const failure = toRequestError(error);
    if (!record.concludes) this.#ledger.close(record, failure.status, [], error);
    const headers: Record<string, string> = {};
    if (failure.status === 429) headers["retry-after"] = "1";
    if (failure.status === 405) headers.allow = "POST";
    if (this.#options.annotations === "azure") withInnerError(failure, this.#guard.labels);
    return Response.json(codecOf(route).error(failure), { status: failure.status, headers });
  }
}

interface Env {
  Variables: { route: Route; record: RequestRecord };
}

function tooLarge(): never {
  throw new RequestError(413, "body_too_large", "The request is larger than this proxy takes (--max-body).");
}
