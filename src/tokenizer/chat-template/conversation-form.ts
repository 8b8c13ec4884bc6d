import { JinjaTemplate } from "./jinja-template.js";
import { invalid, plain, type TemplateMessage } from "./messages.js";

export interface FormOptions {
  /** The answer itself begins with the model's `<think>`. Default false: the text before it ends with an empty one. */
  reasoning?: boolean;
  /** Tool definitions that the conversation's model was given, as JSON schemas. */
  tools?: readonly unknown[];
}

const THINK = "<think>";

/** A template and the values of the variables that name tokens: how conversations are written out. */
export class ConversationForm {
  readonly #template: JinjaTemplate;
  #variables: Record<string, string>;
  readonly #nonce: string;

  /**
   * @param nonce what no content holds, and the template's marks do
   * @throws where the source does not parse
   */
  constructor(source: string, variables: Record<string, string>, nonce: string) {
    this.#template = new JinjaTemplate(source);
    this.#variables = variables;
    this.#nonce = nonce;
  }

  /** From now on it writes marks in place of its control tokens: to parse it once more would take as long as all else of it. */
  mark(marked: (own: string) => string): void {
    this.#template.rewrite(marked);
    const variables = Object.entries(this.#variables);
    this.#variables = Object.fromEntries(variables.map(([name, token]) => [name, marked(token)]));
  }

  /** As a whole. @throws {InputError} MESSAGES_INVALID where the template refuses it */
  *whole(
    messages: readonly TemplateMessage[],
    { tools }: Pick<FormOptions, "tools"> = {},
  ): Generator<void, string> {
    try {
      return yield* this.#template.steps({
        ...this.#variables,
        messages,
        ...(tools?.length ? { tools: plain(tools) } : {}),
        add_generation_prompt: false,
        enable_thinking: false,
      });
    } catch (cause) {
      const reason = (cause as Error).message;
      throw invalid(`the chat template refuses them (${reason}). Check their order and fields`, { cause });
    }
  }

  /** Up to an assistant's answer. @throws {InputError} MESSAGES_INVALID */
  *upToAnswer(messages: readonly TemplateMessage[], options: FormOptions = {}): Generator<void, string> {
    const response = `${this.#nonce}response`;
    const text = yield* this.whole([...messages, { role: "assistant", content: response }], options);
    const end = text.lastIndexOf(response);
    if (end === -1) throw invalid("the chat template drops the assistant's answer after them");
    return options.reasoning ? this.#beforeThinking(text.slice(0, end)) : text.slice(0, end);
  }

  /** The text up to the think block that the template put before the answer, if it did. */
  #beforeThinking(text: string): string {
    const think = text.indexOf(THINK, text.lastIndexOf(this.#nonce));
    return think === -1 ? text : text.slice(0, think);
  }
}
