import { textsIn, withStanding } from "../../tokenizer/chat-template/standing.js";
import type { Beside, FieldReader } from "./fields.js";
import type { TextMessage } from "./messages.js";
import type { Prompt } from "./parsed-request.js";

/** How much of what was said before a tool's answer is judged again with what follows it. UTF-16 units. */
const REPEATED = 512;

/**
 * The prompt of a conversation and of what stands beside it. An assistant's message at the end is how the answer begins,
 * and is judged as that. So is what the assistant said before a tool's answer at the end: to its reader what comes is the
 * rest of it.
 *
 * @param beside texts that are part of no message
 */
export function promptOf(
  all: readonly TextMessage[],
  { standing, passing }: Beside,
  reader: Pick<FieldReader, "policy" | "unjudged">,
): Prompt {
  const messages = withoutResults(all, reader);
  const withBeside = (own: readonly TextMessage[]) => withStanding(withPassing(own, passing), standing);
  const last = messages.at(-1);
  if (last?.role !== "assistant")
    return { messages: withBeside(messages), prefill: saidBeforeTools(messages) };
  const prefill = [last.content, ...textsIn(last.tool_calls)].filter((text) => text !== "").join("\n");
  return { messages: withBeside(messages.slice(0, -1)), prefill };
}

/** The conversation without what tools have answered, where the policy lets that pass unjudged. */
function withoutResults(
  messages: readonly TextMessage[],
  { policy, unjudged }: Pick<FieldReader, "policy" | "unjudged">,
): readonly TextMessage[] {
  if (policy.toolResults === "judge") return messages;
  return messages.filter(({ role, content }) => {
    if (role === "tool" && content !== "") unjudged.push("tool");
    return role !== "tool";
  });
}

/** The end of the answer's texts so far, where a tool has answered last. */
function saidBeforeTools(messages: readonly TextMessage[]): string {
  if (messages.at(-1)?.role !== "tool") return "";
  const begins = messages.findLastIndex(({ role }) => role !== "assistant" && role !== "tool") + 1;
  const said = messages.slice(begins).filter(({ role }) => role === "assistant");
  return said
    .map(({ content }) => content)
    .join("")
    .slice(-REPEATED);
}

/**
 * Puts texts into the conversation as a turn of the user's of its own, so that it is ruled on, ahead of what is asked
 * since the last answer. Where nothing is asked, they join the last message: a turn of the user's would be ruled on in
 * its place.
 */
function withPassing(messages: readonly TextMessage[], texts: readonly string[]): readonly TextMessage[] {
  if (texts.length === 0) return messages;
  const content = joined(texts);
  const answer = messages.findLastIndex(({ role }) => role === "assistant");
  const asked = messages.findIndex(
    (message, i) => i > answer && ["user", "tool"].includes(message.role) && message.content.trim() !== "",
  );
  if (asked !== -1) return messages.toSpliced(firstOfTools(messages, asked), 0, { role: "user", content });
  const last = messages.at(-1);
  if (!last || last.role === "assistant") return [...messages, { role: "user", content }];
  return [...messages.slice(0, -1), { ...last, content: `${last.content}\n\n${content}`.trim() }];
}

function joined(texts: readonly string[]): string {
  return [...new Set(texts)].join("\n");
}

/** Answers of several tools are one turn, which must stay whole. */
function firstOfTools(messages: readonly TextMessage[], asked: number): number {
  let first = asked;
  while (messages[first].role === "tool" && messages[first - 1]?.role === "tool") first--;
  return first;
}
