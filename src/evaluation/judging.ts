import { GenGuard } from "../gen-guard.js";
import type { Guard } from "../guard.js";
import { NONE } from "../moderation/gen/answer-forms.js";
import type { Message } from "../tokenizer/chat-template/template.js";
import { type Conversation, Conversations, type JudgedPart } from "./conversation.js";
import { type Judgements, judge } from "./prediction.js";

/** How a guard's kind takes a row: what of it is read, and what is said of that. */
export interface Judging {
  /** Returns what is wrong with messages that have nothing to judge. @throws {InputError} MESSAGES_INVALID */
  encode(messages: readonly Message[]): Conversation | { problem: string };
  judge(conversation: Conversation, messages: readonly Message[], signal?: AbortSignal): Promise<Judgements>;
}

export function judging(guard: Guard | GenGuard, part: JudgedPart): Judging {
  return guard instanceof GenGuard ? byWords(guard, part) : byTokens(guard, part);
}

function byTokens(guard: Guard, part: JudgedPart): Judging {
  const conversations = new Conversations(guard.tokenizer, guard.template, part);
  return {
    encode: (messages) => conversations.encode(messages),
    judge: (conversation, _, signal) => judge(guard, conversation, part.type, signal),
  };
}

/** A Gen guard reads an answer as it is, reasoning included, and says one thing of it. */
function byWords(guard: GenGuard, { type }: JudgedPart): Judging {
  const { labels } = guard;
  const risks = type === "prompt" ? labels.promptRisk : labels.responseRisk;
  const asked = (messages: readonly Message[]) =>
    type === "prompt"
      ? messages.slice(0, messages.findLastIndex(({ role }) => role === "user") + 1)
      : messages;
  return {
    encode(messages) {
      const { ids } = guard.template.prompt(asked(messages));
      return { ids, start: ids.length - 1 };
    },
    async judge({ ids, start }, messages, signal) {
      const found = await guard.classify({ messages: asked(messages), signal });
      return {
        pred_text: found.text,
        pred_risk_levels: [risks.indexOf(found.risk)],
        pred_categories: [found.category ?? NONE],
        pred_risk_prob: [Number(found.riskProbability.toFixed(6))],
        input_ids: ids,
        split_idx_eval: start,
      };
    },
  };
}
