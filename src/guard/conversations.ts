import type { Ahead } from "../engine/read-ahead.js";
import type { Policy, PromptScope } from "../moderation/policy.js";
import { partsOf } from "../moderation/prompt-parts.js";
import { longestConversation, type WindowSizes } from "../moderation/prompt-windows.js";
import type { EncodedTexts } from "../tokenizer/chat-template/encoded-texts.js";
import { toolTexts, withStanding } from "../tokenizer/chat-template/standing.js";
import {
  type ChatTemplate,
  type Prefix,
  type PrefixLimits,
  type PrefixOptions,
  prefixOf,
} from "../tokenizer/chat-template/template.js";
import { promptTooLong, textBytes } from "../tokenizer/limits.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { PromptInput, StreamInput } from "./options.js";
import type { Prompt } from "./prompt.js";

/** Of a usual token, so that a conversation with as many bytes as are read seldom has more. */
const BYTES_OF_FEWEST = 4;

/** Conversations as a guard's streams begin with them: templated and encoded, and no longer than the guard can read. */
export class Conversations {
  readonly tokenizer: Tokenizer;
  /** Tokens that a stream holds at once, prefix and response. */
  readonly maxTokens: number;
  readonly #template: ChatTemplate;
  readonly #windows: WindowSizes | null;
  readonly #texts: EncodedTexts | null;

  /**
   * @param windows in which they are judged where they are longer than the context, and may be; null: in none
   * @param texts where those that come again are remembered; null: nowhere
   */
  constructor(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    maxTokens: number,
    windows: WindowSizes | null,
    texts: EncodedTexts | null,
  ) {
    this.#template = template;
    this.tokenizer = tokenizer;
    this.maxTokens = maxTokens;
    this.#windows = windows;
    this.#texts = texts;
  }

  /** Tokens of a conversation that are judged at most, in windows where `overflow` is "slide". */
  get maxPromptTokens(): number {
    return this.#windows ? longestConversation(this.#windows) : this.maxTokens - 1;
  }

  /**
   * What a stream begins with; a promise while a long conversation is encoded.
   *
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, TOKEN_INVALID, MARKS_TOO_MANY
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   */
  prefixOf(input: StreamInput, policy: Policy | undefined): Prefix | Promise<Prefix> {
    if (input.messages) return this.templated({ cacheKey: "", ...input }, policy);
    if (input.prompt) return input.prompt.prefix;
    const ids = input.promptIds as readonly number[];
    const { most } = this.#limits(input, policy);
    if (ids.length >= most) throw promptTooLong(ids.length, most, most > this.maxTokens);
    for (const id of ids) this.tokenizer.tokenBytes(id);
    return prefixOf([...ids], this.tokenizer);
  }

  /** As `prefixOf`, of messages. */
  templated(
    input: PromptInput & Pick<StreamInput, "overflow" | "cacheKey" | "closely">,
    policy: Policy | undefined,
  ): Prefix | Promise<Prefix> {
    const limits = this.#limits(input, policy);
    if (readsApart(input)) this.#template.checkSize(limits, input.messages, input.tools);
    const { messages, ...options } = asRead(input);
    return this.#template.prefixWithin(limits, messages, this.#options(options, policy));
  }

  /** How the conversation's next turn will begin; null where it is not known. */
  goingOn(input: Partial<StreamInput>, policy: Policy | undefined): Prompt["goingOn"] {
    if (!input.messages) return input.prompt?.goingOn ?? null;
    const { messages, ...given } = asRead(input as PromptInput);
    const options = this.#options(given, policy);
    let asked = false;
    return async (answer): Promise<Ahead | null> => {
      // Of several answers to one prompt, the conversation goes on with one.
      if (asked) return null;
      asked = true;
      const { said } = partsOf(await this.#template.goingOn(this.maxTokens, messages, answer, options));
      return { ids: said.ids, reads: said.turns.map(({ end }) => end) };
    };
  }

  /** Without a key nothing is shared. */
  #options(input: Partial<PromptInput & Pick<StreamInput, "cacheKey">>, policy: Policy | undefined) {
    const { cacheKey } = input;
    const known = cacheKey === undefined ? undefined : this.#texts?.of(cacheKey);
    return { ...templateOptions(input, policy), known };
  }

  #limits(input: Partial<Pick<StreamInput, "overflow" | "scope">>, policy: Policy | undefined): PrefixLimits {
    const { maxTokens: context, tokenizer } = this;
    if (input.overflow !== "slide" || !this.#windows) {
      return { most: context, context, bytes: context * tokenizer.longest };
    }
    const bytes = textBytes(this);
    const counting = this.maxPromptTokens + 1;
    // Earlier turns that do not count are encoded, but not judged.
    const most = scopeOf(input, policy) === "turn" ? Math.max(counting, bytes / BYTES_OF_FEWEST) : counting;
    return { most: Math.ceil(most), context, bytes };
  }
}

/** What of a conversation counts: as the stream says, the prompt that it shares, or the policy. */
export function scopeOf(
  { scope, prompt }: Partial<Pick<StreamInput, "scope" | "prompt">>,
  policy: Policy | undefined,
): PromptScope | undefined {
  return scope ?? prompt?.scope ?? policy?.prompt.scope;
}

/** Where it is read closely, tools are no part of what is said, as in what a proxy or the AI SDK's middleware reads. */
function asRead<I extends PromptInput & Pick<StreamInput, "closely">>(input: I): I {
  const { messages, tools } = input;
  if (!readsApart(input)) return input;
  return { ...input, messages: withStanding(messages, toolTexts(tools ?? [])), tools: undefined };
}

function readsApart({ messages, tools, closely }: PromptInput & Pick<StreamInput, "closely">): boolean {
  return Boolean(closely && tools?.length && Array.isArray(messages));
}

function templateOptions(
  { reasoning, tools, scope }: Partial<PromptInput>,
  policy: Policy | undefined,
): PrefixOptions {
  return {
    reasoning,
    tools,
    keepReasoning: (scope ?? policy?.prompt.scope) === "conversation",
    attachments: policy?.attachments,
  };
}
