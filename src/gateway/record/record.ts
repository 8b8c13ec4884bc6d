import { createHash } from "node:crypto";
import { ClosedError } from "../../errors.js";
import type { Outcome } from "../../gate/gate-options.js";
import { ModerationViolation } from "../../gate/violation.js";
import type { Finding } from "../../moderation/ruling.js";
import type { Json } from "../../validation/json.js";
import { type Facts, RequestError, toRequestError } from "../api-error.js";
import type { Unjudged } from "../request/fields.js";
import type { RequestEnd } from "./metrics.js";
import { sourcePlace } from "./source-place.js";
import type { RequestTrace } from "./tracing.js";
import type { Watcher } from "./watcher.js";

/**
 * What a log says of a request: codes, amounts and names of the proxy's own. No text of anybody's but what `logText`
 * asks for; what a client may choose freely is an identifier or a hash.
 */
export interface LogEntry {
  time: string;
  /** The client's X-Request-Id where it is an identifier, else one of the proxy's. */
  requestId: string;
  /** Of OpenTelemetry's, where an SDK is there; else null. */
  traceId: string | null;
  /** The judged endpoint, the path that was opened, or "other". */
  endpoint: string;
  /** The rule of the policies file that chose the policy; null: none did. */
  policy: string | null;
  /** As asked for where it is an identifier, else its hash and length. */
  model: string | null;
  stream: boolean;
  end: RequestEnd;
  /** HTTP status sent. */
  status: number;
  ms: number;
  promptMs: number | null;
  /** Tokens of the conversation before the answer, of all choices, and of these those that the guard had read before. */
  promptTokens: number;
  reusedTokens: number;
  /** Tokens of the answer, and of what was dropped of it. */
  tokens: number;
  /** How often the model was asked to go on after a flag (mode "regenerate"). */
  regenerations: number;
  violations: object[];
  observed: object[];
  /** How much of what kind went on that nobody judged. */
  unjudged: Partial<Record<Unjudged | "path", number>>;
  /** Names and types of the answer's that no table knows, and of which nothing went on. */
  leftOut: number;
  /** Code and message of what went wrong, in the proxy's own words. */
  error: ({ code: string; message: string } & Facts) | null;
}

type ReadTokens = Pick<LogEntry, "promptTokens" | "reusedTokens"> & { tokens?: number };

const IDENTIFIER = /^[\w.:@/+-]{1,96}$/;

/** What is known of a request until it is written down. */
export class RequestRecord {
  readonly startedAt = performance.now();
  readonly endpoint: string;
  readonly id: string;
  /** Null: the process has no OpenTelemetry SDK. */
  trace: RequestTrace | null = null;
  /** Are told what becomes of it. */
  readonly watchers: Watcher[] = [];
  /** What is decided of it could not be written down. */
  unaudited = false;
  model: string | null = null;
  policy: string | null = null;
  stream = false;
  unjudged: readonly (Unjudged | "path")[] = [];
  leftOut = 0;
  /** Milliseconds until the prompt's verdict, its tokens, and those of an answer, where there are no outcomes that tell. */
  promptMs: number | null = null;
  promptTokens = 0;
  reusedTokens = 0;
  tokens = 0;
  /** How it ended, where its status does not tell. */
  end: RequestEnd | null = null;
  /** It is written down when its answer has ended. */
  concludes = false;

  constructor(request: Request, endpoint: string) {
    this.endpoint = endpoint;
    const id = request.headers.get("x-request-id");
    this.id = id !== null && IDENTIFIER.test(id) ? id : crypto.randomUUID();
  }

  /** Counts tokens of a text that was judged without an outcome. */
  read({ promptTokens, reusedTokens, tokens = 0 }: ReadTokens): void {
    this.promptTokens += promptTokens;
    this.reusedTokens += reusedTokens;
    this.tokens += tokens;
  }

  asked({ model }: Json, stream = false): void {
    this.model = typeof model === "string" ? nameOf(model) : null;
    this.stream = stream;
  }

  /** @param logText whether the text of what was flagged is told */
  entry(status: number, outcomes: readonly Outcome[], error: unknown, logText: boolean): LogEntry {
    const promptMs = outcomes[0]?.stats.promptMs ?? this.promptMs;
    return {
      time: new Date().toISOString(),
      requestId: this.id,
      traceId: this.trace?.traceId ?? null,
      endpoint: this.endpoint,
      policy: this.policy,
      model: this.model,
      stream: this.stream,
      end:
        this.end ??
        (this.unjudged.includes("path") && status < 400 ? "unjudged" : endOf(status, outcomes, error)),
      status,
      ms: Math.round(performance.now() - this.startedAt),
      promptMs: promptMs && Math.round(promptMs),
      promptTokens: outcomes.reduce((sum, { stats }) => sum + stats.promptTokens, this.promptTokens),
      reusedTokens: outcomes.reduce((sum, { stats }) => sum + stats.reusedTokens, this.reusedTokens),
      tokens: outcomes.reduce((sum, { stats }) => sum + stats.tokens, this.tokens),
      regenerations: outcomes.reduce((sum, { stats }) => sum + stats.regenerations, 0),
      violations: outcomes
        .flatMap(({ violation }) => violation ?? [])
        .map((violation) => ({
          ...violation.toJSON(),
          ...(logText && { text: violation.span?.text ?? null }),
        })),
      observed: outcomes.flatMap(({ observed }) => observed.map(note)),
      unjudged: counted(this.unjudged),
      leftOut: this.leftOut,
      error: error === null || error instanceof ModerationViolation ? null : told(error),
    };
  }
}

function nameOf(model: string): string {
  if (IDENTIFIER.test(model)) return model;
  const hash = createHash("sha256").update(model).digest("hex").slice(0, 16);
  return `sha256:${hash} (${model.length} characters)`;
}

/** How often each kind comes. */
export function counted<K extends string>(kinds: readonly K[]): Partial<Record<K, number>> {
  const counts: Partial<Record<K, number>> = {};
  for (const kind of kinds) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function endOf(status: number, outcomes: readonly Outcome[], error: unknown): RequestEnd {
  if (outcomes.some(({ violation }) => violation?.part === "prompt")) return "blocked";
  if (outcomes.some(({ violation }) => violation)) return "flagged";
  const own = error !== null && status < 500 && toRequestError(error).status === status;
  if (own || status === 400 || status === 413 || status === 429) return "refused";
  if (status >= 400) return "failed";
  const cause = error instanceof ClosedError ? error.cause : error;
  if (outcomes.some(({ end }) => end === "failed") || cause instanceof RequestError) return "failed";
  return outcomes.some(({ end }) => end === "cancelled") ? "cancelled" : "passed";
}

function note({ part, risk, riskProbability, category, index }: Finding): object {
  return { part, risk, riskProbability, category, index };
}

function told(error: unknown): LogEntry["error"] {
  const cause = error instanceof ClosedError && error.cause instanceof RequestError ? error.cause : error;
  const { code, message, facts } = toRequestError(cause);
  return { code, message, ...facts, ...(code === "internal_error" && placeOf(cause)) };
}

/** Where in the code an error that nobody foresaw came up: its own words may be anybody's. */
function placeOf(error: unknown): Facts {
  if (!(error instanceof Error)) return {};
  const at = sourcePlace(error);
  return { kind: error.constructor.name, ...(at !== null && { at }) };
}
