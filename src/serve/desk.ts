import type { AdmissionControl } from "../gateway/admission.js";
import { RequestError } from "../gateway/api-error.js";
import type { AuditLog } from "../gateway/audit/log.js";
import { AuditTrail } from "../gateway/audit/trail.js";
import type { Json } from "../gateway/json.js";
import type { Metrics } from "../gateway/metrics.js";
import { type LogEntry, RequestRecord } from "../gateway/record.js";
import { readBody } from "../gateway/request/body.js";
import { tenantOf } from "../gateway/tenant.js";
import { beginTrace } from "../gateway/tracing.js";
import type { GuardConfig } from "../model/config.js";
import { STREAMS } from "./endpoints.js";
import type { Asking } from "./judge.js";
import type { Keys } from "./keys.js";

const UNAUDITED = "What is decided here cannot be written down now, so nothing is. Try again in a moment.";

interface Tools {
  keys: Keys;
  admission: AdmissionControl;
  metrics: Metrics;
  labels: GuardConfig["labels"];
  audit?: AuditLog;
  log?: (entry: LogEntry) => void;
}

/** What each request goes through: its client's share, its body, a place. And where it is written down. */
export class Desk {
  readonly #tools: Tools;

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  /** Of increments of a stream the lines are those of the request that opened it. */
  recordOf(request: Request, endpoint: string): RequestRecord {
    const record = new RequestRecord(request, endpoint);
    const { audit, labels } = this.#tools;
    if (audit?.unwritable) record.unaudited = true;
    else if (audit && !new URL(request.url).pathname.startsWith(`${STREAMS}/`))
      record.watchers.push(new AuditTrail(audit, record, labels));
    return record;
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
    if (record.unaudited) throw new RequestError(503, "audit_unwritable", UNAUDITED);
    const begun = beginTrace(request, record);
    if (!begun) return work();
    record.trace = begun;
    if (begun.watcher) record.watchers.push(begun.watcher);
    return begun.within(work);
  }

  /** Writes down that it is over. */
  write(record: RequestRecord, status: number, error: unknown): void {
    const { metrics, log } = this.#tools;
    const entry = record.entry(status, [], error, false);
    metrics.ended(entry, []);
    for (const watcher of record.watchers) watcher.ended({ entry, outcomes: [], unjudged: {}, error });
    // A stream that it opened goes on, and its span is at its end.
    record.watchers.splice(0, Infinity, ...record.watchers.filter((own) => own instanceof AuditTrail));
    log?.(entry);
  }
}
