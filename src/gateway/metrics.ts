import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Outcome } from "../gate/gate-options.js";
import type { Guard } from "../guard.js";
import type { Finding } from "../moderation/ruling.js";
import type { AuditLog } from "./audit/log.js";
import type { LogEntry } from "./record.js";

/** How a request ended; unjudged: its path is one that the guard has no part in. */
export type RequestEnd = "passed" | "flagged" | "blocked" | "refused" | "failed" | "cancelled" | "unjudged";

/** What the proxy counts, for Prometheus. Labels hold no text and no paths of strangers. */
export class Metrics {
  readonly registry = new Registry();
  readonly requests: Counter<"endpoint" | "end">;
  readonly findings: Counter<"part" | "action" | "risk" | "category">;
  readonly unjudged: Counter<"kind">;
  readonly leftOut: Counter;
  readonly regenerations: Counter;
  readonly regenerated: Counter<"end">;
  readonly refused: Counter<"code">;
  readonly tokens: Counter;
  readonly promptSeconds: Histogram;
  readonly requestSeconds: Histogram<"endpoint">;
  readonly waitedSeconds: Counter;

  /** @param audit what becomes of its lines is counted. Default: there is none, and no metrics of it */
  constructor(
    guard: Pick<Guard, "load">,
    streams: () => number,
    audit?: Pick<AuditLog, "failures" | "waiting">,
  ) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.requests = new Counter({
      name: "qwen3guard_requests_total",
      help: "Requests, by how they ended.",
      labelNames: ["endpoint", "end"],
      registers,
    });
    this.findings = new Counter({
      name: "qwen3guard_findings_total",
      help: "What the policy blocked or observed.",
      labelNames: ["part", "action", "risk", "category"],
      registers,
    });
    this.unjudged = new Counter({
      name: "qwen3guard_unjudged_total",
      help: "What went on that nobody judged: paths, fields, parts, attachments, sealed or stored texts.",
      labelNames: ["kind"],
      registers,
    });
    this.leftOut = new Counter({
      name: "qwen3guard_left_out_total",
      help: "Fields and parts of answers that were left out, as no table knows them: names and types of each answer.",
      registers,
    });
    this.regenerations = new Counter({
      name: "qwen3guard_regenerations_total",
      help: "How often a model was asked to go on after what it said was flagged and dropped.",
      registers,
    });
    this.regenerated = new Counter({
      name: "qwen3guard_regenerated_answers_total",
      help: "Answers of which something was dropped, by how they ended: complete, flagged, failed, cancelled.",
      labelNames: ["end"],
      registers,
    });
    this.refused = new Counter({
      name: "qwen3guard_refused_total",
      help: "Requests that were refused, by the error's code.",
      labelNames: ["code"],
      registers,
    });
    this.tokens = new Counter({
      name: "qwen3guard_tokens_total",
      help: "Response tokens judged.",
      registers,
    });
    this.promptSeconds = new Histogram({
      name: "qwen3guard_prompt_seconds",
      help: "From a request's arrival to its prompt's verdict.",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    });
    this.requestSeconds = new Histogram({
      name: "qwen3guard_request_seconds",
      help: "Whole requests.",
      labelNames: ["endpoint"],
      buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
      registers,
    });
    this.waitedSeconds = new Counter({
      name: "qwen3guard_waited_for_guard_seconds_total",
      help: "Time that models had to wait because the guard was behind.",
      registers,
    });
    new Gauge({
      name: "qwen3guard_streams",
      help: "Choices being moderated.",
      registers,
      collect() {
        this.set(streams());
      },
    });
    new Counter({
      name: "qwen3guard_prompt_tokens_total",
      help: "Tokens of prompts: those that had been read before (reused), and those that ran (prefilled).",
      labelNames: ["state"],
      registers,
      collect() {
        const { reusedTokens, prefilledTokens } = guard.load;
        this.reset();
        this.inc({ state: "reused" }, reusedTokens);
        this.inc({ state: "prefilled" }, prefilledTokens);
      },
    });
    new Gauge({
      name: "qwen3guard_slots",
      help: "The guard's streams: those that hold a slot and those that wait for one.",
      labelNames: ["state"],
      registers,
      collect() {
        const { active, waiting } = guard.load;
        this.set({ state: "active" }, active);
        this.set({ state: "waiting" }, waiting);
      },
    });
    if (audit) this.#ofAudit(audit);
  }

  #ofAudit(audit: Pick<AuditLog, "failures" | "waiting">): void {
    const registers = [this.registry];
    new Counter({
      name: "qwen3guard_audit_failures_total",
      help: "Writes to the audit that failed. While it cannot be written, requests are refused.",
      registers,
      collect() {
        this.reset();
        this.inc(audit.failures);
      },
    });
    new Gauge({
      name: "qwen3guard_audit_waiting_lines",
      help: "Lines of the audit that are not written yet.",
      registers,
      collect() {
        this.set(audit.waiting);
      },
    });
  }

  /** Counts a request that is over. */
  ended(entry: LogEntry, outcomes: readonly Outcome[]): void {
    const { endpoint, end, promptMs, unjudged, error } = entry;
    this.requests.inc({ endpoint, end });
    this.requestSeconds.observe({ endpoint }, entry.ms / 1000);
    if (promptMs !== null) this.promptSeconds.observe(promptMs / 1000);
    this.tokens.inc(entry.tokens);
    for (const [kind, count] of Object.entries(unjudged)) this.unjudged.inc({ kind }, count);
    this.leftOut.inc(entry.leftOut);
    this.regenerations.inc(entry.regenerations);
    if (end === "refused" && error) this.refused.inc({ code: error.code });
    for (const { end, stats, violation, dropped } of outcomes) {
      this.waitedSeconds.inc(stats.waitedForGuardMs / 1000);
      if (dropped.length > 0) this.regenerated.inc({ end });
      // Where nobody went on, what was dropped last is what ended it.
      for (const { finding } of new Set([...dropped, ...(violation ? [violation] : [])])) this.found(finding);
    }
  }

  found({ part, action, risk, category }: Finding): void {
    this.findings.inc({ part, action, risk, category });
  }
}
