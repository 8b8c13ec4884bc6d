import { InputError } from "../../errors.js";
import { DEEPEST } from "../../validation/json.js";
import { quotedName } from "../../validation/quoted.js";
import { wellFormed } from "../tokenizer.js";

/**
 * One message of a conversation, in the shape of the chat completions API: OpenAI's `ChatCompletionMessageParam` is
 * one. What a message holds beside these fields is not shown to the guard.
 */
export interface Message {
  /** "developer" counts as "system", "function" as "tool". */
  role: "system" | "developer" | "user" | "assistant" | "tool" | "function" | (string & {});
  /** null counts as "", as in an assistant message that only calls tools. Of parts, the text is read. */
  content?: string | null | readonly ContentPart[];
  tool_calls?: readonly unknown[];
  function_call?: unknown;
  refusal?: string | null;
  reasoning_content?: string | null;
  audio?: object | null;
  name?: string;
  tool_call_id?: string;
  /**
   * Counts at every turn, whatever the policy's scope: a text that goes with each request, such as a list of tools. A
   * user's message, ahead of all but the system's, so that what was read of it can be used again.
   */
  standing?: boolean;
}

/** A part of a message: text, or something that the guard cannot read. */
export interface ContentPart {
  type: string;
  text?: string;
  refusal?: string;
}

/** A message as templates take it. */
export interface TemplateMessage {
  role: string;
  content: string;
  reasoning_content?: string;
  tool_calls?: unknown[];
  name?: string;
  tool_call_id?: string;
}

export interface MessageOptions {
  /** Parts that are no text: refused with ATTACHMENT_UNREADABLE, or left out. Default "block". */
  attachments?: "block" | "ignore";
}

/** What a template calls a message's role. */
export const ROLES: Readonly<Record<string, string>> = {
  system: "system",
  developer: "system",
  user: "user",
  assistant: "assistant",
  tool: "tool",
  function: "tool",
};
const NAME = /^[!-~]{0,128}$/;
const TEXT_PARTS = ["text", "input_text", "output_text"];
const THINK = "<think>";
const THOUGHT = "</think>";

/**
 * Messages as plain well-formed data, every one of them something a template shows.
 *
 * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE
 */
export function templateMessages(
  messages: readonly Message[],
  { attachments = "block" }: MessageOptions = {},
): TemplateMessage[] {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw invalid("they must be a list with at least one message");
  }
  const read = Array.from(messages, (message, index) =>
    readMessage(message, `message ${index}`, attachments),
  );
  try {
    return read.map((message) => plain(message) as TemplateMessage);
  } catch (cause) {
    throw invalid("they are nested too deeply", { cause });
  }
}

/** @param which of the messages it is, for errors. @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE */
export function readMessage(
  message: Message | null | undefined,
  which: string,
  attachments: "block" | "ignore",
): TemplateMessage {
  const { role, content, reasoning_content: reasoning, tool_calls: calls, refusal, audio } = message ?? {};
  if (typeof role !== "string" || !Object.hasOwn(ROLES, role)) {
    throw invalid(`${which} has the role ${quotedName(role)}; roles are ${Object.keys(ROLES).join(", ")}`);
  }
  for (const [name, text] of Object.entries({ reasoning_content: reasoning, refusal })) {
    if (text != null && typeof text !== "string") throw invalid(`the ${name} of ${which} must be a string`);
  }
  if (calls != null && !Array.isArray(calls)) throw invalid(`the tool_calls of ${which} must be a list`);
  if (audio != null) rejectAttachment(`audio (${which})`, attachments);
  const call = message?.function_call;
  const all = [...(calls ?? []), ...(call == null ? [] : [{ type: "function", function: call }])];
  if (ROLES[role] !== "assistant" && (all.length > 0 || reasoning)) {
    throw invalid(`${which} has tool calls or reasoning, and templates show those of an assistant alone`);
  }
  if (message?.name != null && !NAME.test(String(message.name))) {
    throw invalid(`the name of ${which} must be a word of up to 128 characters, as templates do not show it`);
  }
  // A message whose content was forgotten must not pass for an empty one.
  if (content === undefined && role !== "assistant") throw invalid(`${which} has no content`);
  return {
    role: ROLES[role],
    content: contentText(content ?? "", which, attachments) + (refusal ?? ""),
    ...(reasoning != null && { reasoning_content: reasoning }),
    ...(all.length > 0 && { tool_calls: all }),
    name: message?.name,
    tool_call_id: message?.tool_call_id,
  };
}

/** Whether a conversation has a message that counts at every turn. @throws {InputError} MESSAGES_INVALID: elsewhere */
export function hasStanding(messages: readonly Message[]): boolean {
  const standing = messages.filter((message) => message?.standing);
  if (standing.length === 0) return false;
  const first = messages.find((message) => ROLES[message?.role] !== "system");
  if (standing.length > 1 || first !== standing[0] || first.role !== "user") {
    throw invalid("a standing message is one of the user's, ahead of all but the system's");
  }
  return true;
}

/** The text of a message's content. @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE */
export function contentText(content: unknown, which: string, attachments: "block" | "ignore"): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw invalid(`the content of ${which} must be a string or a list of parts`);
  return content
    .map((part) => {
      const { type, text, refusal } = (part ?? {}) as ContentPart;
      const own = type === "refusal" ? refusal : TEXT_PARTS.includes(type) ? text : undefined;
      if (typeof own === "string") return own;
      if (typeof type !== "string" || type === "refusal" || TEXT_PARTS.includes(type)) {
        throw invalid(`a part of ${which} has no text; a part is { type: "text", text: "…" }`);
      }
      rejectAttachment(`a part of type ${quotedName(type)} (${which})`, attachments);
      return "";
    })
    .join("");
}

/**
 * What the guard cannot read: lets it go unjudged where the policy says so.
 *
 * @throws {InputError} ATTACHMENT_UNREADABLE
 */
export function rejectAttachment(what: string, attachments: "block" | "ignore"): void {
  if (attachments === "ignore") return;
  throw new InputError(
    "ATTACHMENT_UNREADABLE",
    `The conversation holds ${what}, and the guard reads text alone. ` +
      'Leave it out, or let it pass unjudged with "attachments": "ignore" in the policy.',
  );
}

/**
 * Tells the template where an answer's reasoning ends, as it would find out for itself by splitting at `</think>`. It
 * would take all before the last one for reasoning, wherever it stands, and show it to nobody: one who writes the
 * conversation could hide in there what he likes. So what is no think block at the start stays part of the answer.
 */
export function withReasoningApart(message: TemplateMessage): TemplateMessage {
  const { role, content, reasoning_content: told } = message;
  if (role !== "assistant" || told !== undefined || !content.includes(THOUGHT)) return message;
  if (!content.trimStart().startsWith(THINK)) return { ...message, reasoning_content: "" };
  const end = content.indexOf(THOUGHT);
  return {
    ...message,
    content: withoutBreaks(content.slice(end + THOUGHT.length)),
    reasoning_content: content.slice(content.indexOf(THINK) + THINK.length, end),
  };
}

/** Makes an answer's reasoning part of its text, where the template leaves out that of earlier turns. */
export function withReasoningInText(message: TemplateMessage): TemplateMessage {
  const { role, content, reasoning_content: reasoning } = message;
  if (role !== "assistant") return message;
  if (!reasoning) return content.includes(THOUGHT) ? { ...message, reasoning_content: "" } : message;
  const block = `${THINK}\n${withoutBreaks(reasoning)}\n${THOUGHT}\n\n`;
  return { ...message, content: block + withoutBreaks(content), reasoning_content: "" };
}

/** Without the line breaks at its start. */
function withoutBreaks(text: string): string {
  return text.replace(/^\n+/, "");
}

/** A copy as JSON would make it, each string well-formed. @throws {RangeError} it is nested too deeply, or within itself */
export function plain(value: unknown, depth = 0): unknown {
  const told = asTold(value);
  if (typeof told === "string") return wellFormed(told);
  if (typeof told !== "object" || told === null) return told;
  if (depth > DEEPEST) throw new RangeError(`it is nested more than ${DEEPEST} deep`);
  if (Array.isArray(told)) return told.map((item) => plain(item, depth + 1));
  const fields = Object.entries(told).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [wellFormed(name), plain(field, depth + 1)]));
}

/** What JSON takes a value for that says so itself. */
function asTold(value: unknown): unknown {
  const teller = value as { toJSON?: unknown } | null | undefined;
  const told = typeof teller?.toJSON === "function" ? teller.toJSON() : value;
  return told instanceof String ? String(told) : told;
}

export function invalid(what: string, options?: ErrorOptions): InputError {
  return new InputError("MESSAGES_INVALID", `Cannot template the messages: ${what}.`, options);
}
