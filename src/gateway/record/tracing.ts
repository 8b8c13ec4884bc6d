import {
  type Attributes,
  type Context,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  trace,
} from "@opentelemetry/api";
import { nameOf } from "../../gate/attempt.js";
import type { Finding } from "../../moderation/ruling.js";
import type { Dropped } from "../regenerate/dropped.js";
import type { RequestRecord } from "./record.js";
import type { Begun, Ended, Ruled, Told, ToldVerdict, Watcher } from "./watcher.js";

/** OpenTelemetry's names for what is asked of a model, by the judged endpoint. */
const OPERATIONS: Readonly<Record<string, string>> = {
  "/chat/completions": "chat",
  "/v1/chat/completions": "chat",
  "/responses": "chat",
  "/v1/messages": "chat",
  "/api/chat": "chat",
  "/completions": "text_completion",
  "/api/generate": "text_completion",
};

const FROM_HEADERS: TextMapGetter<Headers> = {
  get: (headers, name) => headers.get(name) ?? undefined,
  keys: (headers) => [...headers.keys()],
};

/** A request's part of a trace. */
export interface RequestTrace {
  readonly traceId: string;
  /** Tells the span what becomes of the request; null where it is not recorded. */
  readonly watcher: Watcher | null;
  /** Work that belongs to it. */
  within<R>(work: () => R): R;
  /** Puts the trace's headers in the place of the client's. */
  inject(headers: Headers): void;
}

/**
 * Begins a span for a request, under the one that is active or that its headers name. Null where the process has no
 * OpenTelemetry SDK: then nothing is done, and the client's headers go on as they are.
 */
export function beginTrace({ method, headers }: Request, record: RequestRecord): RequestTrace | null {
  const active = context.active();
  const parent = trace.getSpanContext(active) ? active : propagation.extract(active, headers, FROM_HEADERS);
  const tracer = trace.getTracer("qwen3guard-stream");
  const span = tracer.startSpan(record.endpoint, { kind: SpanKind.SERVER }, parent);
  const { traceId } = span.spanContext();
  // Without an SDK it is the parent's own, or none.
  if (!trace.isSpanContextValid(span.spanContext()) || span.spanContext() === trace.getSpanContext(parent))
    return null;
  const own = trace.setSpan(parent, span);
  return {
    traceId,
    watcher: span.isRecording() ? new TracedRequest(span, method, record) : null,
    within: (work) => context.with(own, work),
    inject: (headers) => inject(own, headers),
  };
}

function inject(own: Context, headers: Headers): void {
  for (const name of propagation.fields()) headers.delete(name);
  propagation.inject(own, headers, { set: (carrier, name, value) => carrier.set(name, value) });
}

/** A request's span. Its attributes are codes, amounts, labels and names: no text of anybody's. */
class TracedRequest implements Watcher {
  readonly #span: Span;
  readonly #method: string;
  readonly #record: RequestRecord;
  readonly #released = new Set<number>();

  constructor(span: Span, method: string, record: RequestRecord) {
    this.#span = span;
    this.#method = method;
    this.#record = record;
  }

  begins(_choice: number, _begun: Begun): void {}

  prompt(choice: number, { ruling, turns, unguarded }: Ruled): void {
    const { violation, action } = ruling;
    this.#span.addEvent("qwen3guard.prompt.verdict", {
      "qwen3guard.choice": choice,
      "qwen3guard.action": unguarded ? "failed_open" : action,
      ...(violation ? findingOf(violation) : turns.length > 0 ? labelled(turns[turns.length - 1]) : {}),
    });
  }

  input(index: number, ruled: Ruled): void {
    this.prompt(index, ruled);
  }

  told(index: number, { part, verdict, action, finding }: Told): void {
    this.#span.addEvent(`qwen3guard.${part === "response" ? "response" : "prompt"}.verdict`, {
      "qwen3guard.choice": index,
      "qwen3guard.action": action === "passed" ? "pass" : action,
      ...(finding ? findingOf(finding) : verdict ? labelled(verdict) : {}),
    });
  }

  heard(): void {}

  observed(choice: number, finding: Finding): void {
    this.#span.addEvent("qwen3guard.observed", { "qwen3guard.choice": choice, ...findingOf(finding) });
  }

  received(): void {}

  dropped(choice: number, { violation, intervention }: Dropped): void {
    this.#span.addEvent("qwen3guard.dropped", {
      "qwen3guard.choice": choice,
      "qwen3guard.attempt": violation.regenerations,
      "qwen3guard.intervention": nameOf(intervention),
      ...findingOf(violation.finding),
    });
  }

  released(choice: number): void {
    if (this.#released.has(choice)) return;
    this.#released.add(choice);
    this.#span.addEvent("qwen3guard.first_release", { "qwen3guard.choice": choice });
  }

  ended({ entry, outcomes }: Ended): void {
    outcomes.forEach(({ violation }, choice) => {
      if (violation?.part !== "response") return;
      this.#span.addEvent("qwen3guard.flag", {
        "qwen3guard.choice": choice,
        ...findingOf(violation.finding),
      });
    });
    const { end, status, error, model, endpoint, policy, stream } = entry;
    const operation = OPERATIONS[endpoint];
    this.#span.updateName(operation ? [operation, model].filter(Boolean).join(" ") : endpoint);
    this.#span.setAttributes({
      "http.request.method": this.#method,
      "http.route": endpoint,
      "http.response.status_code": status,
      ...(operation && { "gen_ai.operation.name": operation, "gen_ai.request.stream": stream }),
      ...(model !== null && { "gen_ai.request.model": model }),
      ...(outcomes.length > 1 && { "gen_ai.request.choice.count": outcomes.length }),
      ...(error && { "error.type": error.code }),
      "qwen3guard.request_id": this.#record.id,
      ...(policy !== null && { "qwen3guard.policy": policy }),
      "qwen3guard.end": end,
      "qwen3guard.prompt.tokens": entry.promptTokens,
      "qwen3guard.prompt.reused_tokens": entry.reusedTokens,
      "qwen3guard.response.tokens": entry.tokens,
      ...(entry.regenerations > 0 && { "qwen3guard.regenerations": entry.regenerations }),
    });
    if (end === "failed") this.#span.setStatus({ code: SpanStatusCode.ERROR, message: error?.code });
    this.#span.end();
  }
}

function labelled({ risk, riskProbability }: Pick<ToldVerdict, "risk" | "riskProbability">): Attributes {
  return {
    "gen_ai.evaluation.name": "qwen3guard",
    "gen_ai.evaluation.score.label": risk,
    ...(riskProbability !== null && { "gen_ai.evaluation.score.value": riskProbability }),
  };
}

function findingOf(finding: Finding): Attributes {
  const { part, action, category, categoryProbability, index, rule } = finding;
  return {
    ...labelled(finding),
    "qwen3guard.part": part,
    "qwen3guard.action": action,
    "qwen3guard.category": category,
    "qwen3guard.category_probability": categoryProbability,
    "qwen3guard.index": index,
    "qwen3guard.rule.reading": rule.reading,
    "qwen3guard.rule.debounce": rule.debounce,
    ...(rule.threshold !== null && { "qwen3guard.rule.threshold": rule.threshold }),
  };
}
