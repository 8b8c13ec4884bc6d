import { record } from "../validation/json.js";

/** What a model's server says of its failure. */
export interface ToldError {
  message: string;
  /** As the server names it; null where it does not. */
  code: string | null;
}

/**
 * The failure that an event of a model's stream, or a body in its place, tells of; null where it tells of none. Servers
 * spell it as `error` (an object or a text, beside `choices` or alone, of a choice, of a response), `object: "error"`,
 * `type: "error"` (with `errorText` in the AI SDK's), `detail`, an event named "error", a choice that finished for the
 * reason "error", or a response that failed.
 *
 * @param event what its JSON says
 * @param name the event's own name, where it has one
 */
export function toldError(event: unknown, name?: string): ToldError | null {
  if (typeof event === "string") return name === "error" ? { message: event, code: null } : null;
  const fields = record(event);
  const response = record(fields.response);
  const choices = Array.isArray(fields.choices) ? fields.choices.map(record) : [];
  const own = [fields, response, ...choices].map(({ error }) => error).find(Boolean);
  if (own) return told(own);
  if (name === "error" || fields.object === "error" || fields.type === "error") return told(fields);
  const failed =
    choices.some(({ finish_reason: reason }) => reason === "error") ||
    [fields.type, fields.status, response.status].some(
      (said) => said === "failed" || said === "response.failed",
    );
  if (failed) return told({});
  const bare = !["choices", "type", "object", "id"].some((field) => field in fields);
  return bare && fields.detail ? told({ message: fields.detail }) : null;
}

function told(error: unknown): ToldError {
  if (typeof error === "string") return { message: error, code: null };
  const { message, detail, errorText, code, type } = record(error);
  const said = [message, detail, errorText].find((text) => typeof text === "string" && text !== "");
  const named = [code, KINDS.includes(String(type)) ? undefined : type].find(
    (value) => typeof value === "string" || typeof value === "number",
  );
  return {
    message: (said as string | undefined) ?? "The model's server failed and does not say why.",
    code: named === undefined ? null : String(named),
  };
}

/** Types that name no failure. */
const KINDS = ["error", "response.failed"];
