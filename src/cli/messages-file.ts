import { InputError } from "../errors.js";
import { readText } from "../regular-file.js";
import type { Message } from "../tokenizer/messages.js";

/** Far more than any guard can read. */
const MOST_BYTES = 64 * 2 ** 20;

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
  let text: string;
  try {
    text = await readText(messages, MOST_BYTES);
  } catch (cause) {
    throw new InputError("MESSAGES_UNREADABLE", `${messages} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(
      "MESSAGES_INVALID",
      `${messages} is not JSON (${(cause as Error).message}). Write [{"role": "user", "content": "…"}].`,
      { cause },
    );
  }
}
