import type { ContinuingServer, RegenerateOptions } from "../gate/attempt.js";
import type { PolicyData } from "../moderation/policy.js";
import type { AccessOptions } from "./access/access.js";
import type { RouteOptions } from "./access/routes.js";
import type { AuditLog } from "./audit/log.js";
import type { Pace } from "./moderated-request-options.js";
import type { LogEntry } from "./record/record.js";

/** Pace: default "hold-back", "settled", each token at once, no scout; "scout-first" needs one. */
export interface ProxyOptions extends RouteOptions, AccessOptions, Pace {
  /**
   * The kind of server that `upstream` is, which goes on with an answer where it was flagged: needed in the mode
   * "regenerate", and of no use in others.
   */
  continue?: ContinuingServer;
  /** How it goes on, in the mode "regenerate". Default: `buffer` 40, `attempts` 5, "resample". */
  regenerate?: Omit<RegenerateOptions, "intervention"> & { intervention?: "resample" | "introspection" };
  /** Address of an OpenAI-compatible API, with or without `/v1`. */
  upstream: string;
  /** Default: DEFAULT_POLICY. */
  policy?: PolicyData;
  /** Other policies by model, path, key or header, in the form of a policies file: `PolicyTable`. Default: none. */
  policies?: unknown;
  /** Asks the model only once the prompt has passed. Default false: both at once. */
  promptFirst?: boolean;
  /** Fields of requests and of answers, by name, that pass unread wherever the proxy does not know them. Default: none. */
  passFields?: readonly string[];
  /**
   * Text that answers in the model's place where the policy stops a prompt or an answer and names none of its own.
   * Default: none, and a blocked prompt is an error.
   */
  replacement?: string;
  /**
   * What is told of prompts and answers beside them. "asked" (default): OpenAI's results where a request has the `moderation`
   * field. "azure": Azure's annotations on every answer of chat completions and completions.
   */
  annotations?: "asked" | "azure";
  /** Whether a request's `moderation` field may have text scored and passed that the policy stops. Default false. */
  allowScore?: boolean;
  /** How a stream of chat completions or completions says that it was stopped. "nemo": as NeMo Guardrails. Default "protocol". */
  errors?: "protocol" | "nemo";
  /** Seconds without a word after which a stream's client is told that there is one to come; 0: it never is. Default 15. */
  keepAlive?: number;
  /** Choices moderated at once; more are answered with 429. At most, and by default, the guard's `maxStreams`. */
  maxStreams?: number;
  /**
   * Bytes of a request. Default: of one that is judged more than the guard's context holds (`mostBytes`), 10 MiB where
   * attachments may pass; 1 MiB of any other.
   */
  maxBody?: number;
  /** Seconds that a request may take. Default 600. */
  timeout?: number;
  /** What /metrics says. Default: this process's own, of `GuardProxy.metrics`. */
  metrics?: () => Promise<string>;
  /** One entry a request. Default: none are kept. */
  log?: (entry: LogEntry) => void;
  /** Whether entries hold the text of what was flagged. Default false. */
  logText?: boolean;
  /**
   * Takes down each decision. While it cannot, requests are refused. Whoever opened it closes it, after the proxy. Default:
   * none are.
   */
  audit?: AuditLog;
}
