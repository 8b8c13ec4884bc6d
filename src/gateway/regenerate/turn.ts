import { type Attempt, type ContinuingServer, continueTurn } from "../../gate/attempt.js";
import { isRecord, type Json, list, record } from "../../validation/json.js";
import { RequestError } from "../api-error.js";
import type { ParsedRequest } from "../request/parsed-request.js";
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

/** Fields that say how long an answer may be, in tokens, and how long it must. */
const MOST = ["max_tokens", "max_completion_tokens"];
const LEAST = "min_tokens";

/**
 * A request that goes on with its answer.
 *
 * @param has tokens that its client has, about: those are not to come again
 */
export function continued(
  server: ContinuingServer,
  request: Json,
  { attempt, turn }: Pick<Attempt, "attempt" | "turn">,
  has: number,
): Json {
  const messages = request.messages as Json[];
  const last = messages.at(-1) as Json;
  const own = last.role === "assistant";
  // The request itself may say how the answer begins.
  const before = own ? messages.slice(0, -1) : messages;
  // A server that says that beginning again has put it into the answer.
  const begun = own && !turn.startsWith(last.content as string) ? `${last.content}${turn}` : turn;
  return { ...request, ...left(request, has, attempt), ...continueTurn(server, before, { turn: begun }) };
}

/** What of an answer a body asks to be gone on from. */
export function turnOf({ messages }: Json): string {
  const { role, content } = record(list(messages).at(-1));
  return role === "assistant" && typeof content === "string" ? content : "";
}

/** What is left of how long the answer may be; and another seed, as the same would say the same again. */
function left(request: Json, has: number, attempt: number): Json {
  const fewer = (name: string, least: number) => {
    const tokens = request[name];
    return typeof tokens === "number" ? { [name]: Math.max(Math.min(least, tokens), tokens - has) } : {};
  };
  const { seed } = request;
  return {
    ...Object.assign({}, ...MOST.map((name) => fewer(name, 1))),
    ...fewer(LEAST, 0),
    ...(Number.isSafeInteger(seed) && { seed: (seed as number) + attempt }),
  };
}

function canEndWithTurn({ messages }: Json): boolean {
  if (!Array.isArray(messages) || messages.length === 0) return false;
  const last: unknown = messages.at(-1);
  return isRecord(last) && (last.role !== "assistant" || typeof last.content === "string");
}
