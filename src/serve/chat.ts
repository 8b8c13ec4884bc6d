import { RequestError } from "../gateway/api-error.js";
import { type Rule, refusal } from "../gateway/request/fields.js";
import { CHAT_BODY } from "../gateway/request/tables.js";
import type { TokenLogprob } from "../gen-guard.js";
import type { Guard } from "../guard.js";
import type { Classification } from "../moderation/classification.js";
import { isRecord, type Json } from "../validation/json.js";
import { quotedName } from "../validation/quoted.js";
import { type Asking, type Judge, modelOf } from "./judge.js";
import { withReasoning } from "./messages.js";

/** What changes the text that is judged, or the answer's form, where the tables of requests have it pass. */
const REFUSED = [
  "chat_template_kwargs",
  "guided_regex",
  "guided_grammar",
  "grammar",
  "continue_final_message",
  "echo",
];
const THINKING = ["enable_thinking", "thinking"];
const MOST_ALTERNATIVES = 20;
const MOST_CHOICES = 16;

/** What is asked of a chat completion beside the conversation. */
interface Asked {
  choices: number;
  stream: boolean;
  usage: boolean;
  /** Alternatives to each token; null: no logprobs. */
  alternatives: number | null;
  maxTokens: number;
  stop: string[];
}

/** A verdict as a model's answer: pieces of text as tokens, and why it ends there. */
interface Written {
  pieces: { text: string; logprob?: Json }[];
  finish: "stop" | "length";
  found: Classification;
}

/**
 * A chat completion as a server of Qwen3Guard-Gen gives it: the verdict in the guard's own words. Sampling parameters
 * change nothing, since the likeliest words are what is read.
 *
 * @throws {RequestError} field_refused, field_invalid, logprobs_unavailable
 */
export async function chatCompletion(
  body: Json,
  judge: Judge,
  asking: Asking,
): Promise<{ response: Response; found: Classification }> {
  const asked = read(body);
  const messages = withReasoning(body.messages);
  const written = await write(messages, asked, judge, asking);
  const { found } = written;
  const usage = usageOf(found, asked.choices * written.pieces.length);
  const common = {
    id: `chatcmpl-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: modelOf(body),
  };
  const choices = Array.from({ length: asked.choices }, (_, index) => index);
  if (asked.stream) {
    const object = "chat.completion.chunk";
    const events = chunks(written, asked, choices, usage).map((chunk) => ({ ...common, object, ...chunk }));
    return { response: eventStream(events), found };
  }
  const content = written.pieces.map(({ text }) => text).join("");
  return {
    found,
    response: Response.json({
      ...common,
      object: "chat.completion",
      choices: choices.map((index) => ({
        index,
        message: { role: "assistant", content, refusal: null },
        logprobs: logprobsOf(written.pieces, asked),
        finish_reason: written.finish,
      })),
      usage,
    }),
  };
}

/** What was judged is what a server of a Gen guard has in its prompt: an answer too. */
function usageOf({ promptTokens, reusedTokens, tokens }: Classification, written: number): Json {
  const prompt = promptTokens + tokens;
  return {
    prompt_tokens: prompt,
    completion_tokens: written,
    total_tokens: prompt + written,
    prompt_tokens_details: { cached_tokens: reusedTokens },
  };
}

function eventStream(events: readonly object[]): Response {
  const data = [...events.map((event) => JSON.stringify(event)), "[DONE]"];
  const headers = { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" };
  return new Response(data.map((line) => `data: ${line}\n\n`).join(""), { headers });
}

function chunks({ pieces, finish }: Written, asked: Asked, choices: number[], usage: Json): Json[] {
  const events: Json[] = [];
  for (const index of choices) {
    const choice = (delta: Json, logprobs: Json | null, reason: string | null) =>
      events.push({ choices: [{ index, delta, logprobs, finish_reason: reason }] });
    choice({ role: "assistant", content: "" }, null, null);
    for (const piece of pieces) choice({ content: piece.text }, logprobsOf([piece], asked), null);
    choice({}, null, finish);
  }
  if (asked.usage) events.push({ choices: [], usage });
  return events;
}

function logprobsOf(pieces: Written["pieces"], { alternatives }: Asked): Json | null {
  return alternatives === null ? null : { content: pieces.map(({ logprob }) => logprob), refusal: null };
}

async function write(messages: unknown, asked: Asked, judge: Judge, asking: Asking): Promise<Written> {
  const found = await judge.classify(messages, asking);
  const { tokenizer } = judge.guard;
  const logprobs =
    asked.alternatives === null
      ? null
      : await judge.logprobs(messages, found.text, asked.alternatives, asking);
  const ids = logprobs?.slice(0, -1).map(({ id }) => id) ?? tokenizer.encode(found.text);
  const texts = textsOf(ids, tokenizer).slice(0, asked.maxTokens);
  const end = stoppedAt(texts, asked.stop);
  const pieces: Written["pieces"] = [];
  for (let i = 0, at = 0; i < texts.length && at < end; at += texts[i].length, i++) {
    const text = texts[i].slice(0, end - at);
    pieces.push({ text, logprob: logprobs ? described(logprobs[i], tokenizer) : undefined });
  }
  const cut = texts.length < ids.length && end === Number.POSITIVE_INFINITY;
  return { pieces, finish: cut ? "length" : "stop", found };
}

/** What each token adds to the text. A character of several tokens comes with its last. */
function textsOf(ids: readonly number[], tokenizer: Guard["tokenizer"]): string[] {
  let said = 0;
  return ids.map((_, i) => {
    const whole = tokenizer.decode(ids.slice(0, i + 1));
    const text = whole.endsWith("\ufffd") ? "" : whole.slice(said);
    said += text.length;
    return text;
  });
}

/** Where a text ends in which the first of some stops is complete; Infinity: none is. */
function stoppedAt(texts: readonly string[], stops: readonly string[]): number {
  let said = "";
  for (const text of texts) {
    said += text;
    const found = stops.map((stop) => said.indexOf(stop)).filter((at) => at !== -1);
    if (found.length > 0) return Math.min(...found);
  }
  return Number.POSITIVE_INFINITY;
}

function described({ id, logprob, top }: TokenLogprob, tokenizer: Guard["tokenizer"]): Json {
  const token = (of: number, log: number) => {
    const bytes = [...tokenizer.tokenBytes(of)];
    return { token: tokenizer.decode([of]), logprob: log, bytes };
  };
  return { ...token(id, logprob), top_logprobs: top.map((other) => token(other.id, other.logprob)) };
}

/** @throws {RequestError} field_refused, field_invalid */
function read(body: Json): Asked {
  for (const [field, value] of Object.entries(body)) {
    if (isTaken(field, value)) continue;
    const message = `${quotedName(field)} is not taken: what is judged are the messages, and the answer has the guard's own form.`;
    throw refusal("field_refused", message);
  }
  if (!Array.isArray(body.messages)) throw invalid("messages", "a list of messages");
  const options = isRecord(body.stream_options) ? body.stream_options : {};
  const stop = body.stop == null ? [] : Array.isArray(body.stop) ? body.stop : [body.stop];
  if (!stop.every((text) => typeof text === "string" && text !== ""))
    throw invalid("stop", "a text, or a list of texts");
  const most = body.max_completion_tokens ?? body.max_tokens;
  return {
    choices: number("n", body.n ?? 1, 1, MOST_CHOICES),
    stream: body.stream === true,
    usage: options.include_usage === true,
    alternatives:
      body.logprobs === true ? number("top_logprobs", body.top_logprobs ?? 0, 0, MOST_ALTERNATIVES) : null,
    maxTokens:
      most == null ? Number.POSITIVE_INFINITY : number("max_tokens", most, 1, Number.MAX_SAFE_INTEGER),
    stop,
  };
}

/** Whether a field neither changes what is judged nor holds a text that nobody would judge. */
function isTaken(field: string, value: unknown): boolean {
  if (value == null || value === false || (Array.isArray(value) && value.length === 0)) return true;
  if (REFUSED.includes(field)) return changesNothing(field, value);
  if (typeof value === "number" || value === true) return true;
  return (
    !holdsText(Object.hasOwn(CHAT_BODY, field) ? CHAT_BODY[field] : "refused") || changesNothing(field, value)
  );
}

/** Whether the proxy would have what stands there judged, or refuse it. */
function holdsText(rule: Rule): boolean {
  return typeof rule === "string"
    ? rule === "text" || rule === "refused"
    : Object.values(rule).some(holdsText);
}

/** Clients for Qwen3 switch thinking off, and a guard has none. */
function changesNothing(field: string, value: unknown): boolean {
  if (!isRecord(value)) return false;
  if (field === "response_format") return value.type === "text";
  return field === "chat_template_kwargs" && Object.keys(value).every((name) => THINKING.includes(name));
}

function number(field: string, value: unknown, least: number, most: number): number {
  if (Number.isInteger(value) && Number(value) >= least && Number(value) <= most) return Number(value);
  throw invalid(field, `a whole number from ${least}${most < 1e9 ? ` to ${most}` : ""}`);
}

function invalid(field: string, expected: string): RequestError {
  return new RequestError(400, "field_invalid", `${field} must be ${expected}.`);
}
