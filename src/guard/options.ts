import type { EngineOptions } from "../engine/engine.js";
import { InputError } from "../errors.js";
import { MODERATION_OPTIONS, type ModerationOptions } from "../gate/moderate.js";
import type { ClassifyInput } from "../moderation/classification.js";
import type { Overflow } from "../moderation/context-window.js";
import type { PolicyData, PromptScope } from "../moderation/policy.js";
import type { ResolveOptions } from "../resolve-model.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import {
  aBoolean,
  aFunction,
  anything,
  aSignal,
  aText,
  type OptionCheck,
  oneOf,
  wholeFrom,
} from "../validation/options.js";
import { Prompt } from "./prompt.js";
import { aScout, type ScoutChoice } from "./scouting.js";

export interface LoadOptions extends EngineOptions, ResolveOptions {
  /**
   * Closes streams with STREAM_IDLE that had nothing to do for this many milliseconds, so that one that nobody ends keeps
   * no slot for ever. A model that thinks for long leaves its stream idle too. Default: none is closed.
   */
  idleMs?: number;
  /**
   * Windows of the model's context in which a conversation, or an answer that is classified, is judged at most where it is
   * longer than that. 1: what is longer is refused, as a Gen guard does in any case. Default 8.
   */
  maxWindows?: number;
  /**
   * Tokens behind which this model's verdicts still hold: how much may stand before a turn that counts where a conversation
   * is read `closely`. Default: a sixteenth of its positions (128 of the embedded guard's, 2,048 of 32,768). Where it is
   * given, and in the embedded guard, for which it was measured, answers go by it too; else they are judged behind all.
   */
  span?: number;
  /**
   * After a stream has ended, and while nothing else runs, the answer is read once more as it will stand in the
   * conversation's next turn, which then pays for what is new in it alone. Default false.
   */
  readAhead?: boolean;
}

/** A conversation up to the response that is about to be streamed. */
export type StreamInput = {
  /** Closes the stream when it fires. */
  signal?: AbortSignal;
  /**
   * When conversation or response outgrow the model's context: "error" fails with PROMPT_TOO_LONG or CONTEXT_EXCEEDED.
   * "slide" judges a longer conversation in windows, and of a longer response keeps the prompt and the newest tokens and
   * judges on. Default "error".
   */
  overflow?: Overflow;
  /**
   * Reads turns that count and stand behind more than the guard's `span` once more by themselves, and, where the span was
   * measured or given, the answer behind such a last turn alone: behind much that is harmless, harm is missed. The worst
   * verdict counts, so that there may be two on a turn. Default false: what is judged is the conversation as it is.
   */
  closely?: boolean;
  /** Keeps the verdicts, so that what comes again after `stream.restart()` is not run again. Default false. */
  restarts?: boolean;
  /** What `stream.ruling` goes by. It stops nothing by itself: `moderate` does. */
  policy?: PolicyData;
  /**
   * Streams with the same key share what the guard has read: a conversation goes on where its last turn ended. Give each
   * tenant a key of its own where the time of a verdict must not tell one what another has said. Default "".
   */
  cacheKey?: string;
} & (
  | (PromptInput & { prompt?: undefined; promptIds?: undefined })
  | (NoMessages & {
      /** A conversation that several streams share: what `guard.prompt` gave. */
      prompt: Prompt;
      promptIds?: undefined;
    })
  | (NoMessages & {
      /**
       * The whole templated prefix as ids, special tokens included; the next token pushed is response index 0. Without a
       * turn that `<|im_end|>` closes there is no verdict on the prompt: where a policy applies, PROMPT_UNJUDGED, unless
       * it says `unjudged: "pass"`.
       */
      promptIds: readonly number[];
      prompt?: undefined;
    })
);

export interface PromptInput {
  /** Chat messages; the last one is not the assistant's, whose answer is what the stream judges. */
  messages: readonly Message[];
  /** The response itself starts with the model's `<think>…</think>`. Default false. */
  reasoning?: boolean;
  /**
   * Tool definitions that the model is given, as JSON schemas: the guard reads them in the system's turn; where it reads
   * `closely`, their texts in windows of their own, which are ruled on whatever the scope.
   */
  tools?: readonly unknown[];
  /**
   * "conversation" shows the guard the reasoning of earlier answers as well, which its chat template leaves out.
   * Default: what the policy says.
   */
  scope?: PromptScope;
}

type NoMessages = { [field in keyof PromptInput]?: undefined };

/** `policy` is DEFAULT_POLICY where none is given, `overflow` is "slide", `closely` is true. */
export type ModerateOptions<C = unknown> = StreamInput &
  Omit<ModerationOptions<C>, "policy"> & {
    /**
     * A small guard that reads every token at once, while this one judges in batches and at once where the small one suspects
     * something. true: the embedded guard. Default: none. Needs `messages`.
     */
    scout?: ScoutChoice;
  };

/** Of a model with a context of 8,192 tokens some 42,000. */
export const USUAL_WINDOWS = 8;

/** The most that a timer of Node takes. */
const LONGEST_MS = 2 ** 31 - 1;

/** What `maxTokens` may be the engine says, which knows of it too where no guard is. */
const aPrefixCache: OptionCheck = (value) =>
  value === false ||
  (typeof value === "object" && value !== null && Object.keys(value).every((name) => name === "maxTokens"))
    ? null
    : "false, or { maxTokens }";

export const LOAD_OPTIONS = {
  device: anything,
  dtype: anything,
  cacheDir: aText,
  onProgress: aFunction,
  signal: aSignal,
  maxStreams: wholeFrom(1, 4096),
  maxTokens: wholeFrom(1),
  threads: wholeFrom(1, 1024),
  cudaGraphs: aBoolean,
  prefixCache: aPrefixCache,
  idleMs: wholeFrom(1, LONGEST_MS),
  maxWindows: wholeFrom(1, 1024),
  span: wholeFrom(0),
  readAhead: aBoolean,
} satisfies Record<keyof LoadOptions, OptionCheck>;

/** null counts as none. What is no list, such as a set of the AI SDK's by name, would be seen by nobody. */
const toolDefinitions: OptionCheck = (value) =>
  value === null || Array.isArray(value)
    ? null
    : "a list of tool definitions, as a model's API is given them";

export const PROMPT_OPTIONS = {
  messages: anything,
  reasoning: aBoolean,
  tools: toolDefinitions,
  scope: oneOf("turn", "conversation"),
  policy: anything,
  overflow: oneOf("error", "slide"),
  cacheKey: aText,
  closely: aBoolean,
} satisfies Record<keyof PromptInput | "policy" | "overflow" | "cacheKey" | "closely", OptionCheck>;

export const STREAM_OPTIONS = {
  ...PROMPT_OPTIONS,
  prompt: anything,
  promptIds: anything,
  signal: aSignal,
  restarts: aBoolean,
} satisfies Record<keyof StreamInput, OptionCheck>;

export const CLASSIFY_OPTIONS = {
  policy: anything,
  messages: anything,
  tools: toolDefinitions,
  signal: aSignal,
  cacheKey: aText,
  closely: aBoolean,
} satisfies Record<keyof ClassifyInput, OptionCheck>;

export const MODERATE_OPTIONS = { ...STREAM_OPTIONS, ...MODERATION_OPTIONS, scout: aScout } satisfies Record<
  keyof ModerateOptions,
  OptionCheck
>;

/** @throws {InputError} PROMPT_EMPTY, OPTION_INVALID */
export function requireConversation(input: Partial<StreamInput> | null | undefined): void {
  const { messages, prompt, promptIds, tools } = input ?? {};
  if ([messages, prompt, promptIds].filter(Boolean).length > 1) {
    throw new InputError("OPTION_INVALID", "A stream takes one of messages, promptIds and prompt.");
  }
  if (tools?.length && !messages) {
    throw new InputError("OPTION_INVALID", "tools go with messages: of a prompt or of ids they are a part.");
  }
  if (messages || prompt instanceof Prompt || (Array.isArray(promptIds) && promptIds.length > 0)) return;
  throw new InputError(
    "PROMPT_EMPTY",
    "A stream needs the conversation so far: messages, or promptIds with at least one id. " +
      'For example { messages: [{ role: "user", content: "…" }] }.',
  );
}
