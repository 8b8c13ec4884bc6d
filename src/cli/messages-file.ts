import type { Message } from "../tokenizer/chat-template/messages.js";
import { readJsonFile } from "./json-file.js";

/**
 * The conversation that a command was given: the messages in a file, or a prompt alone.
 *
 * @throws {InputError} MESSAGES_UNREADABLE, MESSAGES_INVALID
 */
export async function readMessages({
  prompt,
  messages,
}: {
  prompt?: string;
  messages?: string;
}): Promise<Message[]> {
  if (messages === undefined) return [{ role: "user", content: prompt ?? "" }];
  return (await readJsonFile(messages, "MESSAGES", '[{"role": "user", "content": "…"}]')) as Message[];
}
