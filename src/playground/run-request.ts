import { record } from "../validation/json.js";
import type { AnswerSource, RunRequest, Turn } from "./protocol.js";

type Parsed = { run: RunRequest } | { problem: string };

const ROLES: readonly string[] = ["system", "user", "assistant"];
const MOST_TURNS = 200;
const FASTEST = 10_000;

/** Reads what the page asks to run. */
export function parseRun(body: unknown): Parsed {
  const { messages, source } = record(body);
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > MOST_TURNS) {
    return { problem: `messages is a list of 1 to ${MOST_TURNS} turns.` };
  }
  if (!messages.every(isTurn)) return { problem: "A turn has a role (system, user, assistant) and a text." };
  const answer = readSource(record(source));
  if (typeof answer === "string") return { problem: answer };
  return { run: { messages: messages.map(({ role, content }) => ({ role, content })), source: answer } };
}

function readSource({
  kind,
  text,
  perSecond,
  url,
  model,
  key,
}: Record<string, unknown>): AnswerSource | string {
  if (kind === "text") {
    if (typeof text !== "string") return "The answer's text is missing.";
    if (typeof perSecond !== "number" || !(perSecond >= 0 && perSecond <= FASTEST)) {
      return `The pace is 0 to ${FASTEST} words a second.`;
    }
    return { kind, text, perSecond };
  }
  if (kind !== "openai" && kind !== "ollama") return "The answer comes from text, openai or ollama.";
  if (typeof url !== "string" || typeof model !== "string" || model === "") {
    return "An endpoint has an address and a model.";
  }
  return { kind, url, model, ...(typeof key === "string" && key !== "" && { key }) };
}

function isTurn(value: unknown): value is Turn {
  const { role, content } = record(value);
  return typeof content === "string" && ROLES.includes(role as string);
}
