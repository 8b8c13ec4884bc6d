import { ModerationViolation } from "../gate/violation.js";
import type { Guard } from "../guard.js";
import { type Policy, replacementOf } from "../moderation/policy.js";
import type { Json } from "../validation/json.js";
import type { Admission, AdmissionControl } from "./access/admission.js";
import { tenantOf } from "./access/tenant.js";
import type { Endpoint } from "./answer/codec.js";
import { toRequestError } from "./api-error.js";
import { ModeratedRequest } from "./moderated-request.js";
import { policyAsked } from "./policies/asked-policy.js";
import type { ProxyOptions } from "./proxy-options.js";
import type { Ledger } from "./record/ledger.js";
import type { Metrics } from "./record/metrics.js";
import type { RequestRecord } from "./record/record.js";
import type { RegenerationOptions } from "./regenerate/regeneration.js";
import { seamFor } from "./regenerate/turn.js";
import { readBody } from "./request/body.js";
import { FieldReader } from "./request/fields.js";
import type { ParsedRequest } from "./request/parsed-request.js";
import { headersOf, type Upstream } from "./upstream.js";

const KEEP_ALIVE_SECONDS = 15;

interface Tools {
  guard: Guard;
  options: ProxyOptions;
  upstream: Upstream;
  admission: AdmissionControl;
  metrics: Metrics;
  ledger: Ledger;
  /** The policy that a request goes by, which its record names. */
  policyOf(request: Request, body: Json, record: RequestRecord): Policy;
}

/** A request that goes to the model. */
interface Asked {
  record: RequestRecord;
  endpoint: Endpoint;
  /** Path and query, as the client asked. */
  path: string;
  headers: Headers;
  /** As it was judged. */
  body: Json;
  parsed: ParsedRequest;
}

/** Takes requests to the model and its answers back, the guard between. */
export class Moderator {
  readonly #tools: Tools;

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  /** @throws {RequestError}, what stopped the prompt, what the guard failed of */
  async answer(request: Request, record: RequestRecord, endpoint: Endpoint, path: string): Promise<Response> {
    const { options, admission: control, policyOf } = this.#tools;
    const body = await readBody(request);
    record.asked(body, body.stream === true);
    const policy = policyOf(request, body, record);
    const reader = new FieldReader(policy, options.passFields);
    const parsed = endpoint.parse(body, reader);
    record.stream = parsed.stream;
    record.unjudged = reader.unjudged;
    const asked = { record, endpoint, path, headers: headersOf(request, record), body, parsed };
    const admission = control.admit(parsed.choices.length, request.signal);
    let moderated: ModeratedRequest | null = null;
    try {
      moderated = this.#moderated(asked, policy, admission, tenantOf(request));
      const response = await this.#forward(asked, moderated);
      void this.#conclude(moderated, record, response.status, admission);
      return response;
    } catch (error) {
      if (!moderated) admission.free();
      const denial = moderated && this.#ended(moderated, record, admission, error);
      if (denial) return denial;
      throw error;
    }
  }

  /** Ends a request that went wrong. @returns what answers in the model's place, if anything does */
  #ended(
    moderated: ModeratedRequest,
    record: RequestRecord,
    admission: Admission,
    error: unknown,
  ): Response | null {
    moderated.end();
    const denial = error instanceof ModerationViolation ? moderated.denial(error) : null;
    void this.#conclude(moderated, record, denial?.status ?? toRequestError(error).status, admission, error);
    return denial;
  }

  #moderated(asked: Asked, own: Policy, { signal }: Admission, cacheKey: string): ModeratedRequest {
    const { guard, options, metrics } = this.#tools;
    const { endpoint, parsed, record, body } = asked;
    const { moderation } = parsed;
    const policy = moderation ? policyAsked(own, moderation, options.allowScore === true) : own;
    // The guard answers it.
    if (moderation) delete body.moderation;
    return new ModeratedRequest(endpoint, parsed, guard, {
      policy,
      pace: options,
      signal,
      onObserve: (finding) => metrics.found(finding),
      watchers: record.watchers,
      regenerate: this.#regenerate(asked),
      request: body,
      passFields: options.passFields,
      cacheKey,
      annotations: options.annotations === "azure" ? "azure" : moderation ? "openai" : null,
      errors: options.errors,
      replacement: ({ category }) => replacementOf(own, category) ?? options.replacement ?? null,
      keepAlive: options.keepAlive ?? KEEP_ALIVE_SECONDS,
    });
  }

  async #forward(asked: Asked, moderated: ModeratedRequest): Promise<Response> {
    const prompts = moderated.promptsPass();
    prompts.catch(() => {});
    if (this.#tools.options.promptFirst || asked.parsed.promptFirst) await prompts;
    const answered = this.#ask(asked, asked.body, moderated.firstSignal);
    // Whatever becomes of the request, nobody waits for it once the prompt is blocked.
    answered.catch(() => {});
    const response = await Promise.race([answered, prompts.then(() => answered)]);
    await prompts;
    return moderated.answer(response);
  }

  /** Asks the model. */
  #ask({ headers, path }: Asked, asked: Json, signal: AbortSignal): Promise<Response> {
    headers.set("content-type", "application/json");
    // What was judged, not the text it was read from: of a field that comes twice, others may read the first.
    const body = JSON.stringify(asked);
    return this.#tools.upstream.send(path, { method: "POST", headers, body, signal, plain: true });
  }

  /** How the answer is gone on with where it is flagged; null: it ends there. @throws {RequestError} regenerate_one_choice */
  #regenerate(asked: Asked): Omit<RegenerationOptions, "request" | "failed"> | null {
    const { mode, continue: server, regenerate } = this.#tools.options;
    if (mode !== "regenerate" || !server) return null;
    const seam = seamFor(server, asked.record.endpoint, asked.body, asked.parsed);
    const send = (body: Json, signal: AbortSignal) => {
      // It is another request: under the same key a server may say again what it said to the first.
      asked.headers.delete("idempotency-key");
      return this.#ask(asked, body, signal);
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
    this.#tools.ledger.close(record, status, outcomes, cause, unjudged);
  }
}
