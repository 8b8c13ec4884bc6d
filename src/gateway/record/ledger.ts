import type { Outcome } from "../../gate/gate-options.js";
import type { GuardConfig } from "../../model/config.js";
import { RequestError } from "../api-error.js";
import type { AuditLog } from "../audit/log.js";
import { AuditTrail } from "../audit/trail.js";
import type { Unjudged } from "../request/fields.js";
import type { Metrics } from "./metrics.js";
import { counted, type LogEntry, RequestRecord } from "./record.js";
import { beginTrace } from "./tracing.js";

export interface LedgerOptions {
  audit?: AuditLog;
  log?: (entry: LogEntry) => void;
  /** Whether the log has the text of what was flagged. */
  logText?: boolean;
}

/** Where it is written down what becomes of requests: metrics, log, audit, and a trace where there is an SDK. */
export class Ledger {
  readonly #metrics: Metrics;
  readonly #labels: GuardConfig["labels"];
  readonly #options: LedgerOptions;

  constructor(metrics: Metrics, labels: GuardConfig["labels"], options: LedgerOptions) {
    this.#metrics = metrics;
    this.#labels = labels;
    this.#options = options;
  }

  /** @param decides whether the request has lines of its own in the audit */
  open(request: Request, endpoint: string, decides = true): RequestRecord {
    const record = new RequestRecord(request, endpoint);
    const { audit } = this.#options;
    if (audit?.unwritable) record.unaudited = true;
    else if (audit && decides) record.watchers.push(new AuditTrail(audit, record, this.#labels));
    return record;
  }

  /** Does work under a span of its own, where there is an SDK. */
  within<R>(request: Request, record: RequestRecord, work: () => R): R {
    const begun = beginTrace(request, record);
    if (!begun) return work();
    record.trace = begun;
    if (begun.watcher) record.watchers.push(begun.watcher);
    return begun.within(work);
  }

  close(
    record: RequestRecord,
    status: number,
    outcomes: Outcome[] = [],
    error: unknown = null,
    unjudged: readonly Unjudged[] = [],
  ): void {
    const { log, logText = false } = this.#options;
    const entry = record.entry(status, outcomes, error, logText);
    this.#metrics.ended(entry, outcomes);
    const end = { entry, outcomes, error, unjudged: counted(unjudged) };
    for (const watcher of record.watchers) watcher.ended(end);
    log?.(entry);
  }
}

/** @throws {RequestError} audit_unwritable */
export function requireAudited({ unaudited }: RequestRecord): void {
  if (!unaudited) return;
  const message = "What is decided here cannot be written down now, so nothing is. Try again in a moment.";
  throw new RequestError(503, "audit_unwritable", message);
}
