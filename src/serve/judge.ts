import { RequestError } from "../gateway/api-error.js";
import { moderationInputs } from "../gateway/openai/moderation-inputs.js";
import type { RequestRecord } from "../gateway/record/record.js";
import type { GenGuard, TokenLogprob } from "../gen-guard.js";
import type { Guard } from "../guard.js";
import type { Classification } from "../moderation/classification.js";
import { severityOf } from "../moderation/labels.js";
import { type Policy, type PolicyData, resolvePolicy } from "../moderation/policy.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import type { Json } from "../validation/json.js";
import { tellClassification } from "./telling.js";

/** Who asks, and until when. */
export interface Asking {
  signal: AbortSignal;
  cacheKey: string;
  /** Those who watch it are told of what is judged. */
  record: RequestRecord;
}

/** OpenAI's categories, and those of the released checkpoints that mean the same. */
const OPENAI_CATEGORIES: Record<string, string | null> = {
  harassment: null,
  "harassment/threatening": null,
  sexual: "Sexual Content or Sexual Acts",
  hate: null,
  "hate/threatening": null,
  illicit: "Non-violent Illegal Acts",
  "illicit/violent": null,
  "self-harm/intent": null,
  "self-harm/instructions": null,
  "self-harm": "Suicide & Self-Harm",
  "sexual/minors": null,
  violence: "Violent",
  "violence/graphic": null,
};

/** What a service asks of a guard of either kind. */
export class Judge {
  readonly guard: Guard | GenGuard;
  readonly #policy: PolicyData | undefined;
  /** What requests go by that ask for a ruling. */
  readonly policy: Policy;
  /** The same, as `classify` takes it. */
  readonly policyData: PolicyData;

  /** @throws {InputError} POLICY_INVALID */
  constructor(guard: Guard | GenGuard, policy: PolicyData | undefined) {
    this.guard = guard;
    this.#policy = policy;
    this.policyData = policy ?? {};
    this.policy = resolvePolicy(policy, guard.labels);
  }

  /**
   * @param index which of a request's texts it is, from 0; `input`: whether it is one of several that were asked about;
   * `tools`: definitions that the model is given
   */
  async classify(
    messages: unknown,
    { record, ...asking }: Asking,
    policy: unknown = this.#policy,
    { index = 0, input = false, tools }: { index?: number; input?: boolean; tools?: unknown } = {},
  ): Promise<Classification> {
    const conversation = messages as Message[];
    const given = policy as PolicyData | undefined;
    const found = await this.guard.classify({
      messages: conversation,
      policy: given,
      tools: tools as unknown[] | undefined,
      closely: true,
      ...asking,
    });
    // It has been checked by now.
    const resolved = given === undefined || given === null ? null : resolvePolicy(given, this.guard.labels);
    tellClassification(record, index, { messages: conversation, found, policy: resolved, input });
    return found;
  }

  /** @throws {RequestError} logprobs_unavailable: the guard writes no words */
  logprobs(
    messages: unknown,
    answer: string,
    alternatives: number,
    { record: _, ...asking }: Asking,
  ): Promise<TokenLogprob[]> {
    if (!("logprobs" in this.guard)) {
      const message =
        "This guard judges tokens and writes no words, so there are no logprobs. Leave logprobs out.";
      throw new RequestError(400, "logprobs_unavailable", message);
    }
    return this.guard.logprobs({ messages: messages as Message[], ...asking }, answer, alternatives);
  }

  /**
   * OpenAI's moderations: each text is judged as a prompt. Categories have the guard's names and OpenAI's, those that the
   * guard does not know always 0; a score is the probability of not being safe times that of the category.
   */
  async moderations(body: Json, asking: Asking): Promise<Json> {
    const results: Json[] = [];
    for (const [index, content] of moderationInputs(body.input).entries()) {
      const messages = [{ role: "user", content }];
      results.push(
        this.#moderation(await this.classify(messages, asking, this.policyData, { index, input: true })),
      );
    }
    return { id: `modr-${crypto.randomUUID()}`, model: modelOf(body), results };
  }

  #moderation({ risk, category, ruling, probabilities }: Classification): Json {
    const { promptRisk, promptCategory } = this.guard.labels;
    const safe = promptRisk.findIndex((label) => severityOf(label) === "safe");
    const harm = 1 - probabilities.risk[safe];
    const flagged = ruling?.action === "block";
    const found = ruling?.category ?? category;
    const score = (label: string) => harm * (probabilities.category[promptCategory.indexOf(label)] ?? 0);
    const names = [
      ...Object.entries(OPENAI_CATEGORIES),
      ...promptCategory.map((label): [string, string] => [label, label]),
    ].map(([name, label]): [string, string | null] => [
      name,
      label !== null && promptCategory.includes(label) ? label : null,
    ]);
    const each = <T>(value: (label: string | null) => T) =>
      Object.fromEntries(names.map(([name, label]) => [name, value(label)]));
    return {
      flagged,
      categories: each((label) => flagged && label !== null && label === found),
      category_scores: each((label) => (label === null ? 0 : score(label))),
      category_applied_input_types: each((label) => (label === null ? [] : ["text"])),
      risk,
    };
  }
}

/** The model's name as the client gave it: there is but one. */
export function modelOf({ model }: Json): string {
  return typeof model === "string" ? model : "qwen3guard";
}
