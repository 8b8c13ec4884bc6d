import { ContextLengthError } from "../errors.js";
import type { Message } from "./chat-template/messages.js";
import { MOST_MARKS } from "./normalization/nfc-stream.js";

/**
 * Tokens at a text's end that later text may still change. Of what people and models write it is a handful; a line break
 * and white space without end could be held for ever. As many marks as may follow one character fit: four tokens each.
 */
export const MOST_UNSETTLED = 5 * MOST_MARKS;

/** Messages that are templated at once, at some 10 µs each and at first three times that. */
export const FEW_MESSAGES = 64;

/** Characters that take as long to encode as a message takes to template: what each counts beside its text. */
const UNITS_PER_MESSAGE = 128;

/** What a conversation may hold for each token that a stream may: parts of content, values in tool calls and tools. */
const VALUES_PER_TOKEN = 4;

/**
 * UTF-16 units of text for each byte of the longest token that a stream may hold: of any text NFC leaves half a byte a
 * unit at the least.
 */
const UNITS_PER_BYTE = 2;

/** What a token of a long text takes at the most, on average: it is three or four bytes in English, and fewer than ten in code. */
const BYTES_PER_TOKEN = 16;

/** Bytes of a request that are not the conversation's: other fields, names, quotes; or those of other prompts. */
const BESIDE_TEXT = 1 << 18;

/** What a guard can read: the tokens of its context, and of a conversation that is judged in windows. */
export interface Readable {
  maxTokens: number;
  tokenizer: { longest: number };
  /** Default: `maxTokens`. */
  maxPromptTokens?: number;
}

/** Bytes of text that a guard can read: its context in the longest tokens there are, or all windows in usual ones. */
export function textBytes({ maxTokens, tokenizer, maxPromptTokens = maxTokens }: Readable): number {
  return Math.max(maxTokens * tokenizer.longest, maxPromptTokens * BYTES_PER_TOKEN);
}

/** Bytes of a request that hold more than a guard can read. */
export function mostBytes(guard: Readable): number {
  return textBytes(guard) + BESIDE_TEXT;
}

/**
 * The fewest bytes that NFC leaves of a text. ASCII stays, or joins a longer character; of others at least a quarter is
 * left: U+1FBE U+0308 U+0301 are seven bytes and become the two of U+0390, and nothing shrinks more.
 */
export function leastBytes(text: string): number {
  const bytes = Buffer.byteLength(text);
  if (bytes === text.length) return bytes;
  let ascii = 0;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) < 0x80) ascii++;
  return ascii + (bytes - ascii) / 4;
}

/**
 * @param least how many tokens the prompt has at any rate
 * @param most fewer are read, as one at least is the response's
 * @param windows whether it would be judged in windows; null where the guard has none
 */
export function promptTooLong(
  least: number,
  most: number,
  windows: boolean | null = false,
): ContextLengthError {
  const slide = windows ? "raise maxWindows, " : 'let it be judged in windows (overflow: "slide"), ';
  const fix = windows === null ? "" : slide;
  return new ContextLengthError(
    "PROMPT_TOO_LONG",
    `The prompt takes at least ${least} tokens, and fewer than ${most} are read. Drop older turns, ${fix}or raise maxTokens ` +
      "up to the model's context.",
  );
}

/** Refuses an answer by its length alone, before it is encoded. @throws {ContextLengthError} CONTEXT_EXCEEDED */
export function checkAnswer(answer: string, guard: Readable): void {
  const most = UNITS_PER_BYTE * textBytes(guard);
  if (answer.length <= most) return;
  throw new ContextLengthError(
    "CONTEXT_EXCEEDED",
    `The response has ${answer.length} characters, and ${most} are read. Judge it in parts, or raise maxWindows, or ` +
      "maxTokens up to the model's context.",
  );
}

export function tooManyWindows(windows: number, most: number): ContextLengthError {
  return new ContextLengthError(
    "PROMPT_TOO_LONG",
    `The prompt takes ${windows} windows of the model's context, and at most ${most} are read. ` +
      "Drop older turns, or raise maxWindows, or maxTokens up to the model's context.",
  );
}

/** What bounds a conversation before it is templated, which takes time for each message, value and character. */
export interface ConversationLimits {
  /** Tokens that it may take. */
  most: number;
  /** Tokens that the context holds. */
  context: number;
  /** Bytes of text. */
  bytes: number;
  /** How many tokens a message takes at least, by the role that the template calls it. */
  perMessage: (role: string) => number;
}

/**
 * Refuses a conversation that is sure to be too long, by its number of messages, values and characters alone. Takes
 * messages as they come: what is wrong with them is for others to say.
 *
 * @throws {ContextLengthError} PROMPT_TOO_LONG
 */
export function checkSize(
  messages: readonly Message[],
  tools: unknown,
  { most, context, bytes, perMessage }: ConversationLimits,
): void {
  if (!Array.isArray(messages)) return;
  // Few messages are templated as quickly as it is found out what they take.
  const few = messages.length <= FEW_MESSAGES;
  const tokens = few
    ? messages.length
    : messages.reduce((sum, message) => sum + perMessage(String(message?.role)), 0);
  if (tokens >= most) throw promptTooLong(tokens, most, most > context);
  const units = UNITS_PER_BYTE * bytes;
  const left = { values: VALUES_PER_TOKEN * context, units: units - UNITS_PER_MESSAGE * messages.length };
  if (left.units < 0) throw tooLarge(messages.length, units);
  for (const shown of shownValues(messages, tools)) {
    if (typeof shown === "string") left.units -= shown.length;
    if (left.units < 0) throw tooLarge(messages.length, units);
    if (--left.values < 0) {
      throw new ContextLengthError(
        "PROMPT_TOO_LONG",
        `The prompt holds more values than a stream of ${context} tokens can: ${VALUES_PER_TOKEN * context} texts, parts of ` +
          "content, and values in tool calls and tools. Leave out what the answer does not need.",
      );
    }
  }
}

function tooLarge(messages: number, units: number): ContextLengthError {
  return new ContextLengthError(
    "PROMPT_TOO_LONG",
    `The conversation, of ${messages} messages, has more text than the ${units} characters that are read, where each message ` +
      `counts as ${UNITS_PER_MESSAGE} beside its text. Drop older turns, or raise maxWindows, or maxTokens up to the model's context.`,
  );
}

/** What of a conversation a template may show: its texts, and what there is in tool calls and tools. */
function* shownValues(messages: readonly Message[], tools: unknown): Generator {
  for (const message of messages as (Message | null | undefined)[]) {
    const {
      content,
      reasoning_content: reasoning,
      refusal,
      tool_calls: calls,
      function_call: call,
    } = message ?? {};
    // Of a part that is no text nothing is shown, however large it is.
    const texts = Array.isArray(content) ? content.map((part) => part?.text ?? part?.refusal) : [content];
    for (const text of [...texts, reasoning, refusal]) if (text !== undefined) yield text;
    yield* deepValues(calls);
    yield* deepValues(call);
  }
  yield* deepValues(tools);
}

/** A value and all that is in it. Not by recursion: it may be nested deeper than the stack. */
function* deepValues(value: unknown): Generator {
  if (value === undefined) return;
  const rest = [value];
  while (rest.length > 0) {
    const next = rest.pop();
    yield next;
    if (typeof next === "object" && next !== null) for (const part of Object.values(next)) rest.push(part);
  }
}
