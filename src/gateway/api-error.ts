import { GuardError } from "../errors.js";
import { ModerationViolation } from "../gate/violation.js";

/** An error as OpenAI's API writes them. */
export interface ApiError {
  error: {
    message: string;
    type: string;
    param: string | null;
    code: string;
    qwen3guard?: object;
    innererror?: object;
  };
}

/** What a log may say besides code and message: amounts, statuses, hashes. */
export type Facts = Readonly<Record<string, string | number>>;

interface RequestErrorOptions extends ErrorOptions {
  /** What the client gets in place of the error's own words, such as those of the model's server. */
  told?: Partial<ApiError["error"]>;
  facts?: Facts;
}

/**
 * What ends a request, with its HTTP status. Code and message are the proxy's own words and must quote nobody, as a log
 * holds them; what the client gets is `body`.
 */
export class RequestError extends Error {
  readonly status: number;
  readonly code: string;
  readonly body: ApiError;
  readonly facts: Facts;

  constructor(status: number, code: string, message: string, options: RequestErrorOptions = {}) {
    super(message, options);
    this.status = status;
    this.code = code;
    this.facts = options.facts ?? {};
    const type =
      status < 500 ? (status === 429 ? "rate_limit_error" : "invalid_request_error") : "server_error";
    this.body = { error: { message, type, param: null, code, ...options.told } };
  }
}

/** Any error as one of the API's. Of what is not known it says no more than that it happened. */
export function toRequestError(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  if (error instanceof ModerationViolation) return blocked(error);
  if (error instanceof GuardError) {
    const code = error.code.toLowerCase();
    if (error.code === "QUEUE_FULL") return new RequestError(429, code, error.message, { cause: error });
    // What it says to a caller may quote the conversation: that is for the client, and for no log.
    const caller = ["InputError", "ContextLengthError"].includes(error.name);
    return caller
      ? new RequestError(400, code, "The guard refuses it.", {
          cause: error,
          told: { message: error.message },
        })
      : new RequestError(503, code, `The guard cannot judge now: ${error.message}`, { cause: error });
  }
  const message =
    "The guard's own server failed, not the model's. Its log says where in its code: please report that.";
  return new RequestError(500, "internal_error", message, { cause: error });
}

/** A prompt (or, before anything was sent, an answer) that the policy stopped. */
function blocked(violation: ModerationViolation): RequestError {
  const error = new RequestError(400, "content_filter", violation.message, { cause: violation });
  error.body.error.param = violation.part === "prompt" ? "messages" : null;
  error.body.error.qwen3guard = violation.toJSON();
  return error;
}
