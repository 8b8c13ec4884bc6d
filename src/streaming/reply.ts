import { InputError } from "../errors.js";
import type { Policy } from "../moderation/policy.js";
import { contentText, type Message } from "../tokenizer/messages.js";
import type { Part } from "./held.js";

const THINK = "<think>";
const NO_THINKING = "<think>\n\n</think>\n\n";
const THINKING = "<think>\n";
const THOUGHT = "\n</think>\n\n";

/**
 * An answer whose reasoning comes apart from its text: puts both where Qwen3's chat template has them, so that the guard
 * reads what it was trained on. For streams opened with `reasoning: true`.
 */
export class Reply<T> {
  #stage: "start" | "reasoning" | "content" = "start";
  #lead: string;

  /** @param lead how the answer begins, where the request says so */
  constructor(lead = "") {
    this.#lead = lead;
  }

  text(channel: "reasoning" | "content", text: string, tag: T): Part<T>[] {
    if (text === "") return [];
    const before = this.#enter(channel, text);
    const part: Part<T> = { kind: "text", text, tag };
    return before === "" ? [part] : [{ kind: "text", text: before, silent: true }, part];
  }

  #enter(channel: "reasoning" | "content", text: string): string {
    const from = this.#stage;
    if (from === "content" || from === channel) return "";
    this.#stage = channel;
    if (channel === "reasoning") return THINKING;
    const lead = this.#lead;
    this.#lead = "";
    if (from === "reasoning") return THOUGHT + lead;
    // Some servers leave the think block in the text.
    const thinksItself = (lead + text).trimStart().startsWith(THINK);
    return (thinksItself ? "" : NO_THINKING) + lead;
  }
}

/** A request's messages, and how its answer begins where the last message is the assistant's own. */
export function conversation(messages: Message[]): { messages: Message[]; lead: string } {
  const last = messages.at(-1);
  if (last?.role !== "assistant") return { messages, lead: "" };
  return {
    messages: messages.slice(0, -1),
    lead: contentText(last.content ?? "", "the last message", "block"),
  };
}

/**
 * What the guard cannot read: lets it go unjudged where the policy says so.
 *
 * @throws {InputError} ATTACHMENT_UNREADABLE
 */
export function attachment(kind: string, policy: Policy): void {
  if (policy.attachments === "ignore") return;
  throw new InputError(
    "ATTACHMENT_UNREADABLE",
    `The conversation holds ${kind}, and the guard reads text alone. ` +
      'Leave it out, or let it pass unjudged with "attachments": "ignore" in the policy.',
  );
}
