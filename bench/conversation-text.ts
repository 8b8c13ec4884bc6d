import { CONVERSATIONS } from "../src/calibration/conversations.js";
import type { Message } from "../src/tokenizer/chat-template/messages.js";

/** Words of harmless English, as many as there are to be. */
const WORDS = CONVERSATIONS.filter(({ response }) => /^[\x20-\x7e\n]*$/.test(response))
  .map(({ response }) => response)
  .join(" ")
  .split(/\s+/);

/** So many words of text, from one on. */
export function words(count: number, from = 0): string {
  return Array.from({ length: count }, (_, i) => WORDS[(from + i) % WORDS.length]).join(" ");
}

/** A system prompt of so many words; what comes first makes it another's. */
export function assistant(count: number, first: string): Message {
  return { role: "system", content: `${first} ${words(count - 2)}` };
}

/** A user's question of some thirty words. */
export function question(turn: number): string {
  return `Question ${turn}: ${words(28, 31 * turn + 7)}?`;
}

/** An answer of about a hundred words. */
export function reply(turn: number): string {
  return `${words(100, 97 * turn + 50)}.`;
}
