import type { AdmissionControl } from "../gateway/access/admission.js";
import { tenantOf } from "../gateway/access/tenant.js";
import { AuditTrail } from "../gateway/audit/trail.js";
import { type Ledger, requireAudited } from "../gateway/record/ledger.js";
import type { RequestRecord } from "../gateway/record/record.js";
import { readBody } from "../gateway/request/body.js";
import type { Json } from "../validation/json.js";
import { STREAMS } from "./endpoints.js";
import type { Asking } from "./judge.js";
import type { Keys } from "./keys.js";

interface Tools {
  keys: Keys;
  admission: AdmissionControl;
  ledger: Ledger;
}

/** What each request goes through: its client's share, its body, a place. And where it is written down. */
export class Desk {
  readonly #tools: Tools;

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  /** Of increments of a stream the lines are those of the request that opened it. */
  recordOf(request: Request, endpoint: string): RequestRecord {
    return this.#tools.ledger.open(
      request,
      endpoint,
      !new URL(request.url).pathname.startsWith(`${STREAMS}/`),
    );
  }

  /** Does what a request asks for. */
  async work(
    request: Request,
    record: RequestRecord,
    client: string,
    work: (body: Json, asking: Asking) => Promise<Response>,
  ): Promise<Response> {
    return this.within(request, record, async () => {
      const cacheKey = tenantOf(request);
      await this.#tools.keys.count(client);
      const body = await readBody(request);
      record.asked(body, body.stream === true);
      const admission = this.#tools.admission.admit(1, request.signal);
      try {
        const response = await work(body, { signal: admission.signal, cacheKey, record });
        this.write(record, response.status, null);
        return response;
      } finally {
        admission.free();
      }
    });
  }

  /** Under a span of its own, where there is an SDK. @throws {RequestError} audit_unwritable */
  within<R>(request: Request, record: RequestRecord, work: () => R): R {
    requireAudited(record);
    return this.#tools.ledger.within(request, record, work);
  }

  /** Writes down that it is over. */
  write(record: RequestRecord, status: number, error: unknown): void {
    this.#tools.ledger.close(record, status, [], error);
    // A stream that it opened goes on, and its span is at its end.
    record.watchers.splice(0, Infinity, ...record.watchers.filter((own) => own instanceof AuditTrail));
  }
}
