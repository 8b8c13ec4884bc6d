import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { type WebSocket, WebSocketServer } from "ws";
import { type AccessOptions, access } from "../gateway/access/access.js";
import { AdmissionControl } from "../gateway/access/admission.js";
import { tenantOf } from "../gateway/access/tenant.js";
import { RequestError, toRequestError } from "../gateway/api-error.js";
import type { AuditLog } from "../gateway/audit/log.js";
import { Ledger } from "../gateway/record/ledger.js";
import { Metrics } from "../gateway/record/metrics.js";
import type { LogEntry, RequestRecord } from "../gateway/record/record.js";
import { addStatus } from "../gateway/record/status.js";
import type { Service } from "../gateway/server.js";
import type { GenGuard } from "../gen-guard.js";
import type { Guard } from "../guard.js";
import type { Classification } from "../moderation/classification.js";
import type { PolicyData } from "../moderation/policy.js";
import { mostBytes } from "../tokenizer/limits.js";
import type { Json } from "../validation/json.js";
import { chatCompletion } from "./chat.js";
import { Desk } from "./desk.js";
import { CHAT, CLASSIFY, endpointOf, GUARDRAIL, MODERATIONS, refuseOthers, STREAMS } from "./endpoints.js";
import { type Asking, Judge } from "./judge.js";
import { Keys, type Take } from "./keys.js";
import { blockedFor, guardrail } from "./litellm.js";
import { requireFields, withReasoning } from "./messages.js";
import { endSockets, refuseSocket, requestOf, serveSocket } from "./socket.js";
import { TokenStreams } from "./streams.js";
import type { TokenStream } from "./token-stream.js";

export interface ServiceOptions extends AccessOptions {
  /** The model's name in lists. Default "qwen3guard". */
  name?: string;
  /** What `flagged` and `ruling` go by. Default: DEFAULT_POLICY for moderations, none for classifications. */
  policy?: PolicyData;
  /** Any of them opens the service; none: whoever reaches it may ask. */
  apiKeys?: readonly string[];
  /** Requests a minute of each client. Default: no limit. */
  rateLimit?: number;
  /** Token streams at once. Default: one less than the guard has slots, so that requests find one; at least 1. */
  maxStreams?: number;
  /** Requests that may wait beside those that are judged. Default 256. */
  maxWaiting?: number;
  /** Bytes of a request. Default: more than the guard's context holds. */
  maxBody?: number;
  /** Seconds that a request may take. Default 600. */
  timeout?: number;
  /** Seconds that a token stream may have nothing to do. Default 60. */
  idle?: number;
  /** What /metrics says. Default: this process's own. */
  metrics?: () => Promise<string>;
  /** Counts a client's requests in place of this process. */
  take?: Take;
  /** Ids of token streams. Default: random ones. */
  newStreamId?: () => string;
  /** Where each decision is written down, a line each. Default: nowhere. */
  audit?: AuditLog;
  /** One entry a request, or a stream over a socket; it holds nobody's text. */
  log?: (entry: LogEntry) => void;
}

const MAX_WAITING = 256;
const TIMEOUT_SECONDS = 600;
const IDLE_SECONDS = 60;

/** Answers with the guard: chat completions as a served Qwen3Guard-Gen's, moderations, classifications, token streams. */
export class GuardService implements Service {
  readonly metrics: Metrics;
  readonly #app = new Hono<Env>();
  readonly #judge: Judge;
  readonly #options: ServiceOptions;
  readonly #keys: Keys;
  readonly #admission: AdmissionControl;
  readonly #desk: Desk;
  readonly #streams: TokenStreams;
  readonly #sockets: WebSocketServer;
  readonly #since = Math.floor(Date.now() / 1000);
  #draining = false;

  /** @throws {InputError} POLICY_INVALID */
  constructor(guard: Guard | GenGuard, options: ServiceOptions = {}) {
    this.#options = options;
    this.#judge = new Judge(guard, options.policy);
    this.#keys = new Keys(options.apiKeys ?? [], options.rateLimit ?? null, options.take);
    const places = guard.maxStreams + (options.maxWaiting ?? MAX_WAITING);
    this.#admission = new AdmissionControl(places, options.timeout ?? TIMEOUT_SECONDS);
    this.#streams = new TokenStreams(guard, {
      most: Math.min(guard.maxStreams, options.maxStreams ?? Math.max(1, guard.maxStreams - 1)),
      idleMs: 1000 * (options.idle ?? IDLE_SECONDS),
      policy: options.policy,
      newId: options.newStreamId ?? (() => crypto.randomUUID()),
    });
    const maxBody = options.maxBody ?? mostBytes(guard);
    this.#sockets = new WebSocketServer({ noServer: true, maxPayload: maxBody, perMessageDeflate: false });
    this.metrics = new Metrics(guard, () => this.#admission.taken + this.#streams.size, options.audit);
    const { audit, log } = options;
    const ledger = new Ledger(this.metrics, guard.labels, { audit, log });
    this.#desk = new Desk({ keys: this.#keys, admission: this.#admission, ledger });
    this.#guardDoors(guard, maxBody);
    this.#modelRoutes(guard.maxTokens);
    this.#judgeRoutes();
    this.#streamRoutes();
    refuseOthers(this.#app);
    this.#app.onError((error, c) => this.#fail(error, c));
  }

  readonly fetch = (request: Request): Response | Promise<Response> => this.#app.fetch(request);

  /** Takes no more requests. */
  drain(): void {
    this.#draining = true;
  }

  /** Ends those under way. */
  abort(): void {
    this.#admission.abort(shuttingDown());
    this.#streams.closeAll();
    endSockets(this.#sockets.clients);
  }

  /** Takes a socket over, if a request with the same head would be let in. */
  async upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => socket.destroy());
    const request = requestOf(incoming);
    const answer = await this.#admitSocket(request);
    if (answer instanceof Response || !request) {
      return refuseSocket(socket, answer instanceof Response ? answer : new Response("", { status: 400 }));
    }
    this.#sockets.handleUpgrade(incoming, socket, head, (client: WebSocket) => {
      serveSocket(client, (body) => this.#openOver(request, body, answer), this.#streams.idleMs);
    });
  }

  /** A stream over a socket, which is written down once it is over. */
  #openOver(request: Request, body: Json, owner: string): TokenStream {
    const record = this.#desk.recordOf(request, STREAMS);
    record.stream = true;
    try {
      if (this.#draining) throw shuttingDown();
      return this.#desk.within(request, record, () => {
        const stream = this.#streams.open(body, owner, record);
        void stream.over.then(({ status, error }) => this.#desk.write(record, status, error));
        return stream;
      });
    } catch (error) {
      this.#desk.write(record, toRequestError(error).status, error);
      throw error;
    }
  }

  /** Whose socket it is, or why it is refused. */
  async #admitSocket(request: Request | null): Promise<string | Response> {
    if (!request) return new Response("", { status: 400 });
    const answer = await this.#app.fetch(request, { upgrade: true });
    return answer.status === 200 && answer.headers.has(OWNER)
      ? (answer.headers.get(OWNER) as string)
      : answer;
  }

  /** What every request passes first; whether the service is well anybody may ask. */
  #guardDoors(guard: Guard | GenGuard, maxBody: number): void {
    const app = this.#app;
    app.use(async (c, next) => {
      c.set("record", this.#desk.recordOf(c.req.raw, endpointOf(c.req.path)));
      await next();
    });
    app.use(access(this.#options));
    // LiteLLM sends each text twice.
    app.use(GUARDRAIL, bodyLimit({ maxSize: this.#options.maxBody ?? 2 * maxBody, onError: tooLarge }));
    app.use(async (c, next) =>
      c.req.path === GUARDRAIL ? next() : bodyLimit({ maxSize: maxBody, onError: tooLarge })(c, next),
    );
    const { metrics: pooled, audit } = this.#options;
    addStatus(app, { guard, metrics: this.metrics, pooled, audit, isDraining: () => this.#draining });
    app.use(async (c, next) => {
      c.set("client", this.#keys.check(c.req.raw));
      if (this.#draining) throw shuttingDown();
      await next();
    });
  }

  #modelRoutes(maxTokens: number): void {
    const model = {
      id: this.#options.name ?? "qwen3guard",
      object: "model",
      created: this.#since,
      owned_by: "qwen3guard",
      max_model_len: maxTokens,
    };
    this.#app.get("/v1/models", (c) => c.json({ object: "list", data: [model] }));
    this.#app.get("/v1/models/:name{.+}", (c) => c.json({ ...model, id: c.req.param("name") }));
  }

  #judgeRoutes(): void {
    const app = this.#app;
    app.post(CHAT, (c) =>
      this.#work(c, async (body, asking) => {
        const { response, found } = await chatCompletion(body, this.#judge, asking);
        this.#note(found);
        return response;
      }),
    );
    app.post(MODERATIONS, (c) =>
      this.#work(c, async (body, asking) => Response.json(await this.#judge.moderations(body, asking))),
    );
    app.post(CLASSIFY, (c) =>
      this.#work(c, async (body, asking) => {
        requireFields(body, ["messages", "tools", "policy", "model"]);
        const { tools, policy } = body;
        const found = await this.#judge.classify(withReasoning(body.messages), asking, policy, { tools });
        this.#note(found);
        return Response.json(found);
      }),
    );
    app.post(GUARDRAIL, (c) =>
      this.#work(c, async (body, asking) => {
        const { body: answer, findings } = await guardrail(body, this.#judge, asking);
        for (const finding of findings) this.metrics.found(finding);
        return Response.json(answer);
      }),
    );
  }

  /** Token streams for clients without sockets: each request is an increment, judged in the order they come. */
  #streamRoutes(): void {
    const app = this.#app;
    app.get(STREAMS, async (c) => {
      const owner = tenantOf(c.req.raw);
      await this.#keys.count(c.var.client);
      if (!c.env?.upgrade)
        throw new RequestError(426, "upgrade_required", "Open a WebSocket here, or POST a stream.");
      return new Response(null, { headers: { [OWNER]: owner } });
    });
    app.post(STREAMS, (c) =>
      this.#work(c, async (body, { cacheKey, record, signal }) => {
        const stream = this.#streams.open(body, cacheKey, record);
        // Who leaves before it has the id cannot use it, nor free its slot.
        const left = () => stream.close();
        signal.addEventListener("abort", left);
        const verdict = await stream.prompt().finally(() => signal.removeEventListener("abort", left));
        return Response.json({ id: stream.id, verdict });
      }),
    );
    app.post(`${STREAMS}/:id`, (c) =>
      this.#work(c, async (body, { cacheKey }) =>
        Response.json(await this.#streams.of(c.req.param("id") as string, cacheKey).push(body)),
      ),
    );
    app.post(`${STREAMS}/:id/end`, (c) =>
      this.#work(c, async (_, { cacheKey, record }) => {
        const ended = await this.#streams.of(c.req.param("id") as string, cacheKey).end();
        record.tokens = ended.decision.tokens;
        return Response.json(ended);
      }),
    );
    app.delete(`${STREAMS}/:id`, (c) => {
      this.#streams.of(c.req.param("id"), tenantOf(c.req.raw)).close();
      return new Response(null, { status: 204 });
    });
  }

  #fail(error: Error, { req, var: { record } }: Context<Env>): Response {
    const failure = toRequestError(error);
    this.#desk.write(record, failure.status, error);
    const told = req.path === GUARDRAIL ? blockedFor(failure) : null;
    if (told) return Response.json(told, { headers: failure.status === 413 ? { connection: "close" } : {} });
    const headers: Record<string, string> = failure.status === 429 ? { "retry-after": "1" } : {};
    if (failure.status === 405) headers.allow = "POST";
    return Response.json(failure.body, { status: failure.status, headers });
  }

  #work(c: Context<Env>, work: (body: Json, asking: Asking) => Promise<Response>): Promise<Response> {
    return this.#desk.work(c.req.raw, c.var.record, c.var.client, work);
  }

  #note({ part, risk, category, ruling }: Classification): void {
    if (category === null && ruling?.action !== "block") return;
    this.metrics.found({ part, action: ruling?.action ?? "observe", risk, category: category ?? "None" });
  }
}

/** Between the route that lets a socket in and the one who upgrades it. */
const OWNER = "x-qwen3guard-owner";

interface Env {
  Variables: { record: RequestRecord; client: string };
  Bindings: { upgrade?: boolean };
}

function shuttingDown(): RequestError {
  return new RequestError(503, "shutting_down", "The service is shutting down.");
}

function tooLarge(): never {
  const message = "The request is larger than this service takes (--max-body).";
  throw new RequestError(413, "body_too_large", message);
}
