import { createHash } from "node:crypto";
import { toldError } from "../gate/told-error.js";
import { isRecord, type Json, list, record } from "../validation/json.js";
import { figures, label, object, type Reader, word } from "./answer/allow-list.js";
import { OpenFields } from "./answer/open-fields.js";
import { RequestError } from "./api-error.js";
import { contentFilters } from "./openai/choices-fields.js";

/** Longest message of a server's that a client gets. */
const LONGEST_MESSAGE = 2000;
/** Codes that a log may name: of OpenAI and of servers like it. */
const KNOWN_CODES = [
  ...[
    "invalid_api_key",
    "insufficient_quota",
    "rate_limit_exceeded",
    "model_not_found",
    "context_length_exceeded",
  ],
  ...[
    "content_filter",
    "content_policy_violation",
    "server_error",
    "invalid_request_error",
    "overloaded_error",
  ],
  ...[
    "authentication_error",
    "permission_error",
    "not_found_error",
    "api_error",
    "timeout",
    "upstream_error",
  ],
];

/** An error that the model's server tells of. Its own words are not judged yet. */
export class UpstreamError extends RequestError {
  /** What the server says; to be judged before the client gets it. */
  readonly quote: string;

  constructor(status: number, code: string, message: string, { error, quote }: Fault) {
    const told = { ...error, code: error.code === undefined ? code : error.code };
    super(status, code, message, {
      told: told as RequestError["body"]["error"],
      facts: { ...factsOf(quote), ...(isKnown(error.code) && { upstreamCode: String(error.code) }) },
    });
    this.quote = quote;
  }

  /** Lets the client have the server's own words. */
  tell(): void {
    this.body.error.message = this.quote;
  }
}

/** What a server says of a failure. */
interface Fault {
  /** All but the message, as far as it passes. */
  error: Json;
  quote: string;
}

const errorFields = object({
  type: word,
  param: label,
  code: word,
  status: word,
  innererror: object({
    code: word,
    content_filter_result: contentFilters,
    content_filter_results: contentFilters,
  }),
  metadata: object({ provider_name: label, error_type: word }),
  usage: figures(),
});
const blind: Reader = {
  open: new OpenFields(),
  request: {},
  content: "",
  repeats: () => false,
  tools: "pass",
  place: "",
  call: () => {},
  text: () => undefined,
  opened: () => undefined,
};

/** The error that an answer or an event is; null where it is none. @param name of the event */
export function errorIn(body: Json, name?: string): UpstreamError | null {
  const fault = faultIn(body, name);
  return fault && new UpstreamError(502, "upstream_error", "The model's server told of an error.", fault);
}

/** The error in place of a refusal, with the refusal's status. */
export function refusal(status: number, text: string, type: string): UpstreamError {
  const message = `The model's server refused the request with status ${status}.`;
  return new UpstreamError(status, "upstream_refused", message, refusalFault(text, type));
}

function refusalFault(text: string, type: string): Fault {
  try {
    const body: unknown = JSON.parse(text);
    if (isRecord(body)) return faultIn(body, "error") ?? { error: {}, quote: "" };
    return { error: {}, quote: typeof body === "string" ? short(body) : "" };
  } catch {
    return { error: {}, quote: /^text\/plain\b/i.test(type) ? short(text) : "" };
  }
}

function faultIn(body: Json, name?: string): Fault | null {
  const told = toldError(body, name);
  if (!told) return null;
  const choices = list(body.choices).map(record);
  const found = [body, record(body.response), ...choices].map(({ error }) => error).find(isRecord);
  const error = errorFields(found ?? body, blind) as Json;
  const code = typeof error.code === "number" ? { code: String(error.code) } : {};
  return { error: { ...error, ...code }, quote: short(told.message) };
}

function short(text: string): string {
  return text.slice(0, LONGEST_MESSAGE);
}

function factsOf(quote: string): Record<string, string | number> {
  if (quote === "") return {};
  const hash = createHash("sha256").update(quote).digest("hex").slice(0, 12);
  return { messageLength: quote.length, messageHash: hash };
}

function isKnown(code: unknown): boolean {
  return KNOWN_CODES.includes(String(code)) || /^[1-5]\d\d$/.test(String(code));
}
