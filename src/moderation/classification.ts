import { InputError } from "../errors.js";
import {
  invalid,
  type Message,
  type MessageOptions,
  readMessage,
} from "../tokenizer/chat-template/messages.js";
import { severityOf } from "./labels.js";
import type { Policy, PolicyData } from "./policy.js";
import { type Finding, type Ruling, rulePrompt, ruleResponse } from "./ruling.js";
import type { GuardStream } from "./stream.js";
import { type Judgement, type Verdict, verdictsOfTurn, worstAsked } from "./verdict.js";

/** What a guard says of a finished conversation. */
export interface Classification {
  /** What was judged: the answer, where the last message is the assistant's; else the prompt. */
  part: "prompt" | "response";
  /** Label from the checkpoint's risk map. A response counts by the two-token rule of `Decision`. */
  risk: string;
  /**
   * Softmax probability of `risk`, 0 to 1: of a prompt at its `<|im_end|>`; of a response at `flaggedAt`, and of a safe
   * one at the token where "safe" was least sure.
   */
  riskProbability: number;
  /** Label from the checkpoint's category map; null where the risk is safe. */
  category: string | null;
  categoryProbability: number | null;
  /** Whether the answer refuses. Null where the guard does not say: a Stream guard never does. */
  refusal: boolean | null;
  refusalProbability: number | null;
  /**
   * Softmax over all labels at that token, in the order of the checkpoint's maps. Of a Gen guard the probabilities of the
   * names that it could write; the categories' are empty where nothing asked for them (a safe text), and else they and
   * that of "None" add up to 1.
   */
  probabilities: Verdict["probabilities"];
  /** Index of the response token from which it counts as `risk`; null for prompts and where it is safe. */
  flaggedAt: number | null;
  /** The same in the form that Qwen3Guard-Gen writes: "Safety: Unsafe\nCategories: Violent". */
  text: string;
  /** Tokens of the templated conversation ahead of the answer; of a Gen guard all that it reads, instructions and answer too. */
  promptTokens: number;
  /** Of these, those that were read before, for this conversation's or another's sake: they cost nothing. */
  reusedTokens: number;
  /** Tokens of the answer that were judged; 0 for prompts, and of a Gen guard, to which the answer is a part of its prompt. */
  tokens: number;
  /** What the policy makes of it, where one was given. */
  ruling?: ClassificationRuling;
}

/** What a policy makes of a finished conversation. */
export interface ClassificationRuling {
  action: "pass" | "observe" | "block";
  /** What made it so; null where it passes. */
  cause: "risk" | "refusal" | null;
  /** As which it counts, by the policy's thresholds; null where no risk does. */
  risk: string | null;
  category: string | null;
}

export interface ClassifyInput {
  /** The whole conversation. Where the last message is the assistant's, it is judged as an answer to those before it. */
  messages: readonly Message[];
  /** Tool definitions that the model was given, as JSON schemas. */
  tools?: readonly unknown[];
  /** What `ruling` goes by; without one there is none. */
  policy?: PolicyData;
  /** Stops it when it fires. */
  signal?: AbortSignal;
  /** As for `guard.stream`: several answers to one prompt read it once. */
  cacheKey?: string;
  /** As for `guard.stream`. A Gen guard reads a conversation as one in any case. */
  closely?: boolean;
}

/**
 * The last message's text and whether it shows reasoning, where it is an answer; and the messages before it.
 *
 * @throws {InputError} MESSAGES_INVALID, also where the answer calls tools: that is none of its text. ATTACHMENT_UNREADABLE
 */
export function splitAnswer(
  messages: readonly Message[],
  { attachments = "block" }: MessageOptions = {},
): {
  before: readonly Message[];
  answer: string | null;
  reasoning: boolean;
} {
  const last = Array.isArray(messages) ? messages.at(-1) : undefined;
  if (last?.role !== "assistant") return { before: messages, answer: null, reasoning: false };
  const {
    content,
    reasoning_content: thought = "",
    tool_calls: calls,
  } = readMessage(last, `message ${messages.length - 1}`, attachments);
  if (calls !== undefined) {
    throw invalid(
      `message ${messages.length - 1} calls tools, which is no text of the answer. Put what is to be judged into its content`,
    );
  }
  const answer = thought === "" ? content : `<think>\n${thought}\n</think>\n\n${content}`;
  return { before: messages.slice(0, -1), answer, reasoning: answer.trimStart().startsWith("<think>") };
}

/** The prompt's verdict as a classification. @throws {InputError} PROMPT_UNJUDGED */
export async function classifyPrompt(stream: GuardStream, policy?: Policy): Promise<Classification> {
  const verdict = await stream.prompt;
  if (verdict) {
    const turns = await stream.turns;
    const found = classification("prompt", worstAsked(verdict, turns), null, tokensOf(stream));
    const judged = [...turns.filter(({ standing }) => standing), ...verdictsOfTurn(turns, verdict)];
    return policy ? { ...found, ruling: summaryOf(rulePrompt(judged, policy)) } : found;
  }
  throw new InputError("PROMPT_UNJUDGED", "The conversation holds no turn that could be judged.");
}

/**
 * Judges an answer as a whole.
 *
 * @param riskLabels the response's risk labels, in the order of the checkpoint's map
 * @throws {InputError} EMPTY_RESPONSE
 */
export async function classifyResponse(
  stream: GuardStream,
  answer: string,
  riskLabels: readonly string[],
  policy?: Policy,
): Promise<Classification> {
  const verdicts = await verdictsOf(stream, answer);
  const found = await decided(stream, verdicts, riskLabels);
  return policy ? { ...found, ruling: summaryOf(ruleResponse(verdicts, policy)) } : found;
}

async function verdictsOf(stream: GuardStream, answer: string): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  const take = (judged: Verdict[]) => {
    for (const verdict of judged) {
      verdicts.length = Math.min(verdicts.length, verdict.index);
      verdicts.push(verdict);
    }
  };
  take(await stream.pushText(answer));
  take(await stream.flush());
  return verdicts;
}

function summaryOf({ action, violation, observed }: Ruling): ClassificationRuling {
  const finding = violation ?? observed[0];
  if (!finding) return { action: "pass", cause: null, risk: null, category: null };
  const ruling: ClassificationRuling = {
    action,
    cause: "risk",
    risk: finding.risk,
    category: finding.category,
  };
  findings.set(ruling, finding);
  return ruling;
}

/** What rulings stand on. Beside them, as they are data that callers send on. */
const findings = new WeakMap<ClassificationRuling, Finding>();

/** The token and the rule that a ruling stands on; null where it passes, and of a Gen guard, which has no tokens. */
export function findingOf(ruling: ClassificationRuling): Finding | null {
  return findings.get(ruling) ?? null;
}

async function decided(
  stream: GuardStream,
  verdicts: readonly Verdict[],
  riskLabels: readonly string[],
): Promise<Classification> {
  const { flaggedAt } = await stream.end();
  const read = tokensOf(stream, verdicts.length);
  if (flaggedAt !== null) return classification("response", verdicts[flaggedAt], flaggedAt, read);
  const safe = riskLabels.findIndex((label) => severityOf(label) === "safe");
  const sureness = ({ probabilities }: Verdict) => probabilities.risk[safe];
  const weakest = verdicts.reduce((least, verdict) =>
    sureness(verdict) < sureness(least) ? verdict : least,
  );
  return classification(
    "response",
    {
      risk: riskLabels[safe],
      riskProbability: sureness(weakest),
      category: null,
      categoryProbability: null,
      probabilities: weakest.probabilities,
    },
    null,
    read,
  );
}

type ReadTokens = Pick<Classification, "promptTokens" | "reusedTokens" | "tokens">;

/** @param tokens of the answer */
function tokensOf({ promptTokens, reusedTokens }: GuardStream, tokens = 0): ReadTokens {
  return { promptTokens, reusedTokens, tokens };
}

function classification(
  part: Classification["part"],
  { risk, riskProbability, category, categoryProbability, probabilities }: Judgement,
  flaggedAt: number | null,
  read: ReadTokens,
): Classification {
  return {
    part,
    risk,
    riskProbability,
    category,
    categoryProbability,
    refusal: null,
    refusalProbability: null,
    probabilities,
    flaggedAt,
    text: `Safety: ${risk}\nCategories: ${category ?? "None"}`,
    ...read,
  };
}
