import { RequestError } from "../gateway/api-error.js";
import { parseChat } from "../gateway/openai/chat-request.js";
import { FieldReader, objectsOf, refusal } from "../gateway/request/fields.js";
import type { TextMessage } from "../gateway/request/messages.js";
import type { Classification } from "../moderation/classification.js";
import { type Policy, replacementOf } from "../moderation/policy.js";
import { rulePrompt } from "../moderation/ruling.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import { textsIn } from "../tokenizer/chat-template/standing.js";
import type { Json } from "../validation/json.js";
import type { Asking, Judge } from "./judge.js";

/** What was found, for metrics. */
export interface Finding {
  part: "prompt" | "response";
  action: "observe" | "block";
  risk: string;
  category: string;
}

/** What LiteLLM is told: to go on, or why not. */
export interface GuardrailAnswer {
  body: { action: "NONE" } | { action: "BLOCKED"; blocked_reason: string; qwen3guard?: Finding };
  findings: Finding[];
}

/**
 * Judges what LiteLLM sends of a request or of an answer. What a policy stops is blocked and never rewritten: LiteLLM drops
 * rewrites of streams unless it is set up for them.
 *
 * @throws what the guard failed of, and what `blockedFor` has a word for
 */
export async function guardrail(body: Json, judge: Judge, asking: Asking): Promise<GuardrailAnswer> {
  const { policy } = judge;
  const findings =
    asked(body) === "request"
      ? await judgeRequest(body, judge, policy, asking)
      : await judgeAnswer(body, judge, policy, asking);
  const stopped = findings.find(({ action }) => action === "block");
  if (!stopped) return { body: { action: "NONE" }, findings };
  const reason =
    replacementOf(policy, stopped.category) ??
    `The ${stopped.part} was judged ${stopped.risk} (${stopped.category}).`;
  return { body: { action: "BLOCKED", blocked_reason: reason, qwen3guard: stopped }, findings };
}

/**
 * What LiteLLM is told where a text is what cannot be judged, or is larger than what is read: it may be told to let by what
 * ends with an error (`fail_on_error`). Null: the fault is no text's, and LiteLLM does what it was told for that.
 */
export function blockedFor({ status, body }: RequestError): GuardrailAnswer["body"] | null {
  if (status !== 400 && status !== 413) return null;
  return { action: "BLOCKED", blocked_reason: body.error.message };
}

function asked({ input_type }: Json): "request" | "response" {
  if (input_type === "request" || input_type === "response") return input_type;
  throw new RequestError(422, "input_unreadable", 'input_type must be "request" or "response".');
}

async function judgeRequest(body: Json, judge: Judge, policy: Policy, asking: Asking): Promise<Finding[]> {
  const reader = new FieldReader(policy);
  rejectImages(body, policy);
  const rows = objectsOf(body.structured_messages, "structured_messages");
  const shown = textsIn(rows);
  // Endpoints without messages send texts alone; what a row shows need not be read twice.
  const texts = textsOf(body).filter((own) => !shown.some((all) => all.includes(own)));
  const calls = rows.length > 0 ? [] : callsOf(body);
  const messages = [...rows, ...[...texts, ...calls].map((content) => ({ role: "user", content }))];
  if (messages.length === 0) return [];
  const { choices } = parseChat({ messages, ...(isFilled(body.tools) && { tools: body.tools }) }, reader);
  const [{ messages: prompt, prefill }] = choices;
  const findings = await judgePrompt(prompt, judge, policy, asking);
  if (prefill === "") return findings;
  return [...findings, ...(await judgeText(prompt, prefill, judge, asking))];
}

/** By the policy's scope, where the guard judges turns; a Gen guard judges the conversation as a whole. */
async function judgePrompt(
  messages: readonly TextMessage[],
  judge: Judge,
  policy: Policy,
  asking: Asking,
): Promise<Finding[]> {
  const { guard } = judge;
  if ("logprobs" in guard) return found(await judge.classify(messages, asking, judge.policyData));
  const { scope } = policy.prompt;
  const { record, ...options } = asking;
  const { cacheKey } = options;
  const prompt = guard.prompt({ messages, reasoning: true, scope, overflow: "slide", cacheKey });
  const stream = guard.stream({ prompt, overflow: "slide", closely: true, ...options });
  try {
    const turns = await stream.turns;
    record.read(stream);
    const ruling = rulePrompt(turns, policy);
    const replaces = ({ category }: { category: string }) => replacementOf(policy, category) !== null;
    for (const watcher of record.watchers) {
      watcher.begins(0, { messages, policy, replaces });
      watcher.prompt(0, { ruling, turns, unguarded: false });
    }
    const { violation, observed } = ruling;
    return (violation ? [...observed, violation] : observed).map(({ part, action, risk, category }) => ({
      part,
      action,
      risk,
      category,
    }));
  } finally {
    stream.close();
  }
}

/** Each text is an answer of its own: LiteLLM does not send what was asked. */
async function judgeAnswer(body: Json, judge: Judge, policy: Policy, asking: Asking): Promise<Finding[]> {
  rejectImages(body, policy);
  const calls = callsOf(body);
  if (calls.length > 0 && policy.tools === "refuse") {
    throw refusal("tool_call_refused", "The model's answer calls a tool, and the policy refuses that.");
  }
  const texts = [
    ...textsOf(body),
    ...(policy.tools === "judge" && calls.length > 0 ? [calls.join("\n")] : []),
  ];
  const findings: Finding[] = [];
  for (const [i, own] of texts.entries()) {
    findings.push(...(await judgeText([{ role: "user", content: "" }], own, judge, asking, i)));
  }
  return findings;
}

async function judgeText(
  before: readonly Message[],
  content: string,
  judge: Judge,
  asking: Asking,
  index = 0,
): Promise<Finding[]> {
  const messages = [...before, { role: "assistant", content }];
  return found(await judge.classify(messages, asking, judge.policyData, { index }));
}

function found({ part, risk, category, ruling }: Classification): Finding[] {
  if (!ruling || ruling.action === "pass") return [];
  const { action } = ruling;
  return [{ part, action, risk: ruling.risk ?? risk, category: ruling.category ?? category ?? "None" }];
}

function textsOf({ texts = null }: Json): string[] {
  if (texts === null) return [];
  if (!Array.isArray(texts) || !texts.every((own) => typeof own === "string")) {
    throw new RequestError(422, "input_unreadable", "texts must be a list of texts.");
  }
  return texts.filter((own) => own.trim() !== "");
}

/** What tools are called with, as the tools' own parsers have it. */
function callsOf({ tool_calls }: Json): string[] {
  return textsIn(tool_calls).flatMap((own) => {
    try {
      return textsIn(JSON.parse(own));
    } catch {
      return [own];
    }
  });
}

/** @throws {RequestError} attachment_unreadable: the guard reads text alone */
function rejectImages({ images }: Json, { attachments }: Policy): void {
  if (!isFilled(images) || attachments === "ignore") return;
  throw refusal(
    "attachment_unreadable",
    'The guard reads text alone. Leave the image out, or let it pass unjudged with "attachments": "ignore" in the policy.',
  );
}

function isFilled(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}
