import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Outcome } from "../../gate/gate-options.js";
import type { Guard } from "../../guard.js";
import type { AuditLog } from "../audit/log.js";
import type { LogEntry } from "./record.js";

/** How a request ended; unjudged: its path is one that the guard has no part in. */
export type RequestEnd = "passed" | "flagged" | "blocked" | "refused" | "failed" | "cancelled" | "unjudged";

/** What the proxy counts, for Prometheus. Labels hold no text and no paths of strangers. */
export class Metrics {
  readonly registry = ofProcess();
  readonly requests = this.#counter("qwen3guard_requests_total", "Requests, by how they ended.", [
    "endpoint",
    "end",
  ]);
  readonly findings = this.#counter("qwen3guard_findings_total", "What the policy blocked or observed.", [
    "part",
    "action",
    "risk",
    "category",
  ]);
  readonly unjudged = this.#counter(
    "qwen3guard_unjudged_total",
    "What went on that nobody judged: paths, fields, parts, attachments, sealed or stored texts.",
    ["kind"],
  );
  readonly leftOut = this.#counter(
    "qwen3guard_left_out_total",
    "Fields and parts of answers that were left out, as no table knows them: names and types of each answer.",
  );
  readonly regenerations = this.#counter(
    "qwen3guard_regenerations_total",
    "How often a model was asked to go on after what it said was flagged and dropped.",
  );
  readonly regenerated = this.#counter(
    "qwen3guard_regenerated_answers_total",
    "Answers of which something was dropped, by how they ended: complete, flagged, failed, cancelled.",
    ["end"],
  );
  readonly refused = this.#counter(
    "qwen3guard_refused_total",
    "Requests that were refused, by the error's code.",
    ["code"],
  );
  readonly tokens = this.#counter("qwen3guard_tokens_total", "Response tokens judged.");
  readonly promptSeconds = new Histogram({
    ...this.#named("qwen3guard_prompt_seconds", "From a request's arrival to its prompt's verdict."),
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  });
  readonly requestSeconds = new Histogram({
    ...this.#named("qwen3guard_request_seconds", "Whole requests."),
    labelNames: ["endpoint"] as const,
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
  });
  readonly waitedSeconds = this.#counter(
    "qwen3guard_waited_for_guard_seconds_total",
    "Time that models had to wait because the guard was behind.",
  );

  /** @param audit what becomes of its lines is counted. Default: there is none, and no metrics of it */
  constructor(
    guard: Pick<Guard, "load">,
    streams: () => number,
    audit?: Pick<AuditLog, "failures" | "waiting">,
  ) {
    this.#gauge("qwen3guard_streams", "Choices being moderated.", (gauge) => gauge.set(streams()));
    this.#ofGuard(guard);
    if (audit) this.#ofAudit(audit);
  }

  #ofGuard(guard: Pick<Guard, "load">): void {
    new Counter({
      ...this.#named(
        "qwen3guard_prompt_tokens_total",
        "Tokens of prompts: those that had been read before (reused), and those that ran (prefilled).",
      ),
      labelNames: ["state"],
      collect() {
        const { reusedTokens, prefilledTokens } = guard.load;
        this.reset();
        this.inc({ state: "reused" }, reusedTokens);
        this.inc({ state: "prefilled" }, prefilledTokens);
      },
    });
    const help = "The guard's streams: those that hold a slot and those that wait for one.";
    this.#gauge(
      "qwen3guard_slots",
      help,
      (gauge) => {
        const { active, waiting } = guard.load;
        gauge.set({ state: "active" }, active);
        gauge.set({ state: "waiting" }, waiting);
      },
      ["state"],
    );
  }

  #ofAudit(audit: Pick<AuditLog, "failures" | "waiting">): void {
    new Counter({
      ...this.#named(
        "qwen3guard_audit_failures_total",
        "Writes to the audit that failed. While it cannot be written, requests are refused.",
      ),
      collect() {
        this.reset();
        this.inc(audit.failures);
      },
    });
    const help = "Lines of the audit that are not written yet.";
    this.#gauge("qwen3guard_audit_waiting_lines", help, (gauge) => gauge.set(audit.waiting));
  }

  #counter<L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return new Counter({ ...this.#named(name, help), labelNames });
  }

  /** @param tell is called whenever somebody asks */
  #gauge<L extends string>(
    name: string,
    help: string,
    tell: (gauge: Gauge<L>) => void,
    labelNames: L[] = [],
  ): void {
    new Gauge({
      ...this.#named(name, help),
      labelNames,
      collect() {
        tell(this);
      },
    });
  }

  #named(name: string, help: string): { name: string; help: string; registers: Registry[] } {
    return { name, help, registers: [this.registry] };
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

  found({ part, action, risk, category }: Record<"part" | "action" | "risk" | "category", string>): void {
    this.findings.inc({ part, action, risk, category });
  }
}

/** What Node tells of itself comes first. */
function ofProcess(): Registry {
  const register = new Registry();
  collectDefaultMetrics({ register });
  return register;
}
