import { type Attempt, type ContinuingServer, continueTurn } from "../../gate/attempt.js";
import { RequestError } from "../api-error.js";
import { isRecord, type Json } from "../json.js";
import type { ParsedRequest } from "../parsed-request.js";
import { asksForJson } from "../request/settings.js";
import { ChatSeam, MessageSeam, type Seam } from "./seam.js";

/** The endpoints whose answers a server goes on with, and how their events are joined. */
const SEAMS: Record<ContinuingServer, Record<string, new () => Seam>> = {
  vllm: { "/chat/completions": ChatSeam },
  "llama.cpp": { "/chat/completions": ChatSeam },
  anthropic: { "/v1/messages": MessageSeam },
};

/**
 * What joins the answers to a request that may be gone on with; null where none may: it goes to another endpoint, or asks for
 * more than a text.
 *
 * @throws {RequestError} regenerate_one_choice
 */
export function seamFor(
  server: ContinuingServer,
  endpoint: string,
  request: Json,
  { choices, moderation }: ParsedRequest,
): Seam | null {
  const own = SEAMS[server];
  if (!Object.hasOwn(own, endpoint)) return null;
  if (choices.length > 1) {
    throw new RequestError(
      400,
      "regenerate_one_choice",
      'This proxy has answers gone on with (--mode regenerate), one choice a request: leave "n" out, and ask several times.',
    );
  }
  // A server that repeats the turn it goes on with (`echo`) would say twice what its client has.
  const more =
    moderation || request.logprobs || request.echo || asksForJson(request) || !canEndWithTurn(request);
  return more ? null : new own[endpoint]();
}

/** A request that goes on with its answer. */
export function continued(server: ContinuingServer, request: Json, { turn }: Pick<Attempt, "turn">): Json {
  const messages = request.messages as Json[];
  const last = messages.at(-1) as Json;
  if (last.role !== "assistant") return { ...request, ...continueTurn(server, messages, { turn }) };
  // The request itself says how the answer begins.
  return { ...request, ...continueTurn(server, messages.slice(0, -1), { turn: `${last.content}${turn}` }) };
}

function canEndWithTurn({ messages }: Json): boolean {
  if (!Array.isArray(messages) || messages.length === 0) return false;
  const last: unknown = messages.at(-1);
  return isRecord(last) && (last.role !== "assistant" || typeof last.content === "string");
}
