import { join } from "node:path";
import { CheckpointError } from "../../errors.js";
import { checkSize, FEW_MESSAGES, promptTooLong } from "../limits.js";
import { Marks } from "../normalization/marks.js";
import { atOnce, inTurns, SLICE } from "../slices.js";
import type { Tokenizer } from "../tokenizer.js";
import { ConversationForm, type FormOptions } from "./conversation-form.js";
import type { KnownTexts } from "./encoded-texts.js";
import {
  hasStanding,
  invalid,
  type Message,
  type MessageOptions,
  ROLES,
  templateMessages,
  withReasoningApart,
  withReasoningInText,
} from "./messages.js";
import { encodeParts } from "./parts.js";
import { readTemplates, type TemplateSources } from "./template-files.js";
import { promptIndexOf, type Turn, turnsOf } from "./turns.js";

export type { Message } from "./messages.js";
export { promptIndexOf } from "./turns.js";

export interface PrefixOptions extends MessageOptions, FormOptions {
  /** Shows the reasoning of earlier answers, which the template leaves out. Default false. */
  keepReasoning?: boolean;
  /** What of its texts was encoded before. */
  known?: KnownTexts;
}

/** How long a conversation may be that is judged in windows. */
export interface PrefixLimits {
  /** It has fewer ids. */
  most: number;
  /** Tokens that the model's context holds. */
  context: number;
  /** Bytes of its texts. */
  bytes: number;
}

/** A templated conversation up to the first token of the response. */
export interface Prefix {
  ids: number[];
  /**
   * Index in `ids` of the `<|im_end|>` that closes the last user turn; where there is none, the last turn. Null where no
   * turn is closed.
   */
  promptIndex: number | null;
  /** The turns that are closed, in order. */
  turns: Turn[];
}

/**
 * A checkpoint's own chat template. Its control tokens are tokens; the same written out in a message, a tool's
 * answer or a tool call stay plain text, so that no content can forge a turn.
 *
 * To tell the two apart the template is rendered with marks in place of its control tokens: random for each
 * template, so content cannot hold them. Content itself goes through the template's own string handling as it is.
 */
export class ChatTemplate {
  readonly #tokenizer: Tokenizer;
  readonly #template: ConversationForm;
  /** The template for conversations with tools, where the checkpoint has a separate one. */
  readonly #toolTemplate: ConversationForm;
  readonly #marks: Marks;
  /** How many tokens a message without content takes, by role; counted when a long conversation first has one. */
  readonly #leastTokens = new Map<string, number>();

  private constructor(tokenizer: Tokenizer, sources: TemplateSources, file: string) {
    this.#tokenizer = tokenizer;
    this.#marks = new Marks(tokenizer);
    const one = sources.toolTemplate === sources.template;
    const form = (source: string) => new ConversationForm(source, sources.tokens, this.#marks.nonce);
    try {
      this.#template = form(sources.template);
      this.#toolTemplate = one ? this.#template : form(sources.toolTemplate);
    } catch (cause) {
      throw new CheckpointError("TEMPLATE_INVALID", `The chat template in ${file} does not parse.`, {
        cause,
      });
    }
    const refused = this.#mark(this.#template) ?? (one ? null : this.#mark(this.#toolTemplate));
    if (refused !== null) {
      throw new CheckpointError(
        "TEMPLATE_INVALID",
        `The chat template in ${file} ${refused}. Use the one that comes with Qwen3Guard-Stream.`,
      );
    }
  }

  /**
   * Reads the chat template of a checkpoint or model directory, as `readTemplates` does.
   * Throws CheckpointError: TEMPLATE_MISSING, TEMPLATE_INVALID.
   */
  static async load(dir: string, tokenizer: Tokenizer): Promise<ChatTemplate> {
    return new ChatTemplate(tokenizer, await readTemplates(dir), join(dir, "tokenizer_config.json"));
  }

  /**
   * Ids of a conversation up to the response that is about to be streamed. System messages, several turns, tool
   * calls and tool answers go where the template puts them; a tool's answer is a user turn, as it is in Qwen3's.
   * Throws InputError (MESSAGES_INVALID): no messages, one that is not what `Message` says, a role that templates
   * would drop, an assistant's message at the end, or messages that the template refuses.
   */
  prefix(messages: readonly Message[], options: PrefixOptions = {}): Prefix {
    const ids = atOnce(this.#steps(this.#beforeAnswer(messages, options), options));
    return prefixOf(ids, this.#tokenizer, hasStanding(messages));
  }

  /**
   * As `prefix`, of fewer than `most` ids. What is sure to be too long by its length alone is refused before it is
   * templated and encoded. Of a long conversation comes a promise: one of many messages is templated, and one of much text
   * encoded, in slices, between which the event loop goes on.
   *
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, MARKS_TOO_MANY
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   * @throws or the promise rejects with what only templating and encoding can find
   */
  prefixWithin(
    limits: number | PrefixLimits,
    messages: readonly Message[],
    options: PrefixOptions = {},
  ): Prefix | Promise<Prefix> {
    const all = typeof limits === "number" ? this.#withinContext(limits) : limits;
    this.checkSize(all, messages, options.tools);
    const rendering = this.#beforeAnswer(messages, options);
    const standing = hasStanding(messages);
    const prefix = (ids: number[]) => prefixOf(ids, this.#tokenizer, standing);
    const within = { most: all.most, windows: all.most > all.context, known: options.known };
    if (messages.length > FEW_MESSAGES) return inTurns(this.#steps(rendering, within)).then(prefix);
    const text = atOnce(rendering);
    const steps = this.#encode(text, within);
    return text.length <= SLICE ? prefix(atOnce(steps)) : inTurns(steps).then(prefix);
  }

  /** Refuses what is sure to be too long before any of it is read. @throws {ContextLengthError} PROMPT_TOO_LONG */
  checkSize(limits: PrefixLimits, messages: readonly Message[], tools?: readonly unknown[]): void {
    checkSize(messages, tools, { ...limits, perMessage: (role) => this.#least(role) });
  }

  /**
   * What a conversation begins with when its user goes on after an answer, whatever he says: what two such have in
   * common. Encoded in slices, between which the event loop goes on.
   *
   * @param most ids at most
   * @throws as `prefixWithin`, by rejecting
   */
  async goingOn(
    most: number,
    messages: readonly Message[],
    answer: string,
    options: PrefixOptions = {},
  ): Promise<Prefix> {
    const spoken = [...messages, { role: "assistant", content: answer }];
    const goneOn = (content: string) =>
      inTurns(this.#beforeAnswer([...spoken, { role: "user", content }], options));
    const text = await goneOn("a");
    const other = await goneOn("b");
    let common = 0;
    while (common < text.length && text[common] === other[common]) common++;
    const ids = await inTurns(this.#encode(text.slice(0, common), { most, known: options.known }));
    return prefixOf(ids, this.#tokenizer, hasStanding(messages));
  }

  /**
   * Ids of a conversation as a whole, the last answer and its end included, as in training and evaluation.
   * Throws InputError (MESSAGES_INVALID) as `prefix` does, but takes an assistant's message at the end.
   */
  conversation(messages: readonly Message[]): number[] {
    return atOnce(this.#steps(this.#template.whole(templateMessages(messages))));
  }

  /** The rendered conversation with its control tokens marked, up to where the response begins; checked before the first step. */
  #beforeAnswer(messages: readonly Message[], options: PrefixOptions): Generator<void, string> {
    const handed = options.keepReasoning ? withReasoningInText : withReasoningApart;
    const conversation = templateMessages(messages, options).map(handed);
    if (conversation.at(-1)?.role === "assistant") {
      throw invalid("the last one is the assistant's. Leave it out: its answer is what you stream");
    }
    const form = options.tools?.length ? this.#toolTemplate : this.#template;
    return form.upToAnswer(conversation, options);
  }

  *#steps(rendering: Generator<void, string>, within?: Within): Generator<void, number[]> {
    return yield* this.#encode(yield* rendering, within);
  }

  #encode(
    text: string,
    { most = Number.POSITIVE_INFINITY, windows, known }: Within = {},
  ): Generator<void, number[]> {
    const tooLong = (least: number) => promptTooLong(least, most, windows);
    return encodeParts(this.#marks.parts(text), this.#tokenizer, most, tooLong, known);
  }

  #withinContext(most: number): PrefixLimits {
    return { most, context: most, bytes: most * this.#tokenizer.longest };
  }

  /** How many tokens the template adds for one more message of a role, as messages name it. */
  #least(name: string): number {
    if (!Object.hasOwn(ROLES, name)) return 1;
    const role = ROLES[name];
    const known = this.#leastTokens.get(role);
    if (known !== undefined) return known;
    const least = this.#countLeast(role);
    this.#leastTokens.set(role, least);
    return least;
  }

  #countLeast(role: string): number {
    const count = (times: number): number => {
      const messages = [{ role: "user", content: "" }, ...Array(times).fill({ role, content: "" })];
      return atOnce(this.#steps(this.#template.upToAnswer(messages))).length;
    };
    try {
      return Math.max(1, count(3) - count(2));
    } catch {
      // It does not take them in a row: nothing is known.
      return 1;
    }
  }

  /**
   * Puts marks in place of a template's control tokens. Says what is wrong with it: it must take an ordinary conversation,
   * and marks must be all it takes.
   */
  #mark(form: ConversationForm): string | null {
    const messages = ["system", "user", "assistant", "user"].map((role) => ({ role, content: role }));
    try {
      const whole = this.#tokenizer.encodeTemplated(atOnce(form.upToAnswer(messages)));
      form.mark((text) => this.#marks.mark(text));
      const marked = atOnce(this.#steps(form.upToAnswer(messages)));
      const same = marked.length === whole.length && marked.every((id, i) => id === whole[i]);
      return same ? null : "puts its control tokens together from parts";
    } catch (error) {
      return `does not take a conversation of system, user and assistant: ${(error as Error).message}`;
    }
  }
}

/**
 * Ids that a caller has templated, and where in them there is something to judge.
 *
 * @param standing whether the user's first turn counts at every turn
 */
export function prefixOf(ids: number[], tokenizer: Tokenizer, standing = false): Prefix {
  const turns = turnsOf(ids, tokenizer);
  const first = standing && turns.find(({ role }) => role === "user");
  if (first) first.standing = true;
  return { ids, promptIndex: promptIndexOf(ids, tokenizer) ?? turns.at(-1)?.end ?? null, turns };
}

/** How many ids there may be, whether they are judged in windows, and what is known of them. */
interface Within extends Pick<PrefixOptions, "known"> {
  most?: number;
  windows?: boolean;
}
