import { join } from "node:path";
import { CheckpointError } from "../../errors.js";
import { checkSize, FEW_MESSAGES, promptTooLong } from "../limits.js";
import { Marks } from "../normalization/marks.js";
import { atOnce, inTurns, SLICE } from "../slices.js";
import type { Tokenizer } from "../tokenizer.js";
import { ASSISTANT, EVERYBODY, type Frame, frameOf, type GenLabels, labelsOf, USER } from "./gen-form.js";
import { JinjaTemplate } from "./jinja-template.js";
import {
  invalid,
  type Message,
  type MessageOptions,
  type TemplateMessage,
  templateMessages,
  withReasoningInText,
} from "./messages.js";
import { encodeParts } from "./parts.js";
import { readTemplates, type TemplateSources } from "./template-files.js";

/** A conversation in a Gen guard's frame, up to where its answer begins. */
export interface GenPrompt {
  ids: number[];
  /** What the template asks about: the last message decides. */
  part: "prompt" | "response";
}

/** A conversation as its template is given it. */
interface Asked extends Pick<GenPrompt, "part"> {
  messages: readonly TemplateMessage[];
}

/**
 * A Gen guard's chat template: instructions, the conversation as paragraphs, and the form of the answer, all in one turn.
 *
 * Content cannot move that frame. Control tokens written out in it are plain text, as in `ChatTemplate`; the frame's own
 * marks, which are plain text themselves, are changed where content imitates them: the brackets of `<END CONVERSATION>`
 * become square ones, and a line that begins like a turn, `ASSISTANT:`, becomes a quotation of one. What the template
 * would not show is refused.
 */
export class GenTemplate {
  readonly labels: GenLabels;
  readonly #tokenizer: Tokenizer;
  readonly #template: JinjaTemplate;
  readonly #variables: Record<string, string>;
  readonly #marks: Marks;
  readonly #imitations: { sections: RegExp; turns: RegExp };

  private constructor(tokenizer: Tokenizer, sources: TemplateSources, labels: GenLabels) {
    this.labels = labels;
    this.#tokenizer = tokenizer;
    this.#marks = new Marks(tokenizer);
    this.#template = new JinjaTemplate(this.#marks.mark(sources.template));
    this.#variables = Object.fromEntries(
      Object.entries(sources.tokens).map(([name, token]) => [name, this.#marks.mark(token)]),
    );
    const plainly = new JinjaTemplate(sources.template);
    this.#imitations = imitations(frameOf(plainly.render({ ...sources.tokens, messages: EVERYBODY })));
  }

  /**
   * Reads the chat template of a checkpoint or model directory, as `readTemplates` does.
   *
   * @throws {CheckpointError} TEMPLATE_MISSING, TEMPLATE_INVALID: it is no Gen guard's
   */
  static async load(dir: string, tokenizer: Tokenizer): Promise<GenTemplate> {
    const sources = await readTemplates(dir);
    const labels = labelsOf(sources);
    if (labels) {
      const template = new GenTemplate(tokenizer, sources, labels);
      if (template.#agreesWith(sources)) return template;
    }
    throw new CheckpointError(
      "TEMPLATE_INVALID",
      `The chat template in ${join(dir, "tokenizer_config.json")} is not a Qwen3Guard-Gen's, with its safety policy, ` +
        "categories and form of answer. Use the one that comes with the checkpoint.",
    );
  }

  /** What the prompts of all conversations begin with, by what they ask about. */
  get instructions(): number[][] {
    const asked = (content: string) => [USER, ASSISTANT].map(({ role }) => ({ role, content }));
    return [1, 2].map((count) => {
      const [a, b] = ["a", "b"].map((content) => this.prompt(asked(content).slice(0, count)).ids);
      return a.slice(
        0,
        a.findIndex((id, i) => id !== b[i]),
      );
    });
  }

  /** @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE */
  prompt(messages: readonly Message[], options: MessageOptions = {}): GenPrompt {
    return atOnce(this.#steps(this.#read(messages, options)));
  }

  /**
   * As `prompt`, of fewer than `most` ids. Of a long conversation comes a promise: one of many messages is templated, and
   * one of much text encoded, in slices, between which the event loop goes on.
   *
   * @throws {InputError} MESSAGES_INVALID, ATTACHMENT_UNREADABLE, MARKS_TOO_MANY
   * @throws {ContextLengthError} PROMPT_TOO_LONG
   * @throws or the promise rejects with what only templating and encoding can find
   */
  promptWithin(
    most: number,
    messages: readonly Message[],
    options: MessageOptions = {},
  ): GenPrompt | Promise<GenPrompt> {
    const bytes = most * this.#tokenizer.longest;
    checkSize(messages, undefined, { most, context: most, bytes, perMessage: () => 1 });
    const asked = this.#read(messages, options);
    if (messages.length > FEW_MESSAGES) return inTurns(this.#steps(asked, most));
    const text = atOnce(this.#render(asked.messages));
    const steps = this.#encode(text, most);
    const prompt = (ids: number[]) => ({ ids, part: asked.part });
    return text.length <= SLICE ? prompt(atOnce(steps)) : inTurns(steps).then(prompt);
  }

  #read(messages: readonly Message[], options: MessageOptions): Asked {
    const read = templateMessages(messages, options).map(withReasoningInText);
    const last = read.at(-1)?.role;
    if (last !== "user" && last !== "assistant") {
      throw invalid(`the last one is the ${last}'s; the user's or the assistant's is what is judged`);
    }
    return { messages: read, part: last === "user" ? "prompt" : "response" };
  }

  *#steps({ messages, part }: Asked, most?: number): Generator<void, GenPrompt> {
    const text = yield* this.#render(messages);
    return { ids: yield* this.#encode(text, most), part };
  }

  #encode(text: string, most?: number): Generator<void, number[]> {
    const tooLong = (least: number) => promptTooLong(least, most as number, null);
    return encodeParts(this.#marks.parts(text), this.#tokenizer, most, tooLong);
  }

  *#render(messages: readonly TemplateMessage[]): Generator<void, string> {
    const shown = messages.map(({ role, content }) => ({ role, content: this.#plain(content) }));
    yield* this.#requireShown(messages);
    return yield* this.#rendered(shown);
  }

  /** Content in which nothing looks like the frame around it. */
  #plain(content: string): string {
    return content
      .replace(this.#imitations.sections, (_, inner: string) => `[${inner}]`)
      .replace(this.#imitations.turns, "$1> $2");
  }

  /** Stand-ins for all texts must come out of the template, in order: one that does not would be judged as if unsaid. */
  *#requireShown(messages: readonly TemplateMessage[]): Generator<void, void> {
    const standIns = messages.map((_, i) => `${this.#marks.nonce}y${i}y`);
    const text = yield* this.#rendered(messages.map(({ role }, i) => ({ role, content: standIns[i] })));
    let at = 0;
    messages.forEach(({ role, tool_calls: calls }, i) => {
      const found = text.indexOf(standIns[i], at);
      if (found === -1) {
        throw invalid(
          `message ${i}, the ${role}'s, is not shown by the guard's chat template where it stands. It shows one system ` +
            "message at the start, and turns of user and assistant from the user's first on. Leave it out, or put what " +
            "is to be judged into one of those",
        );
      }
      if (calls !== undefined) {
        throw invalid(
          `message ${i} calls tools, which the guard's chat template does not show. Put what is to be judged into its ` +
            "content",
        );
      }
      at = found + standIns[i].length;
    });
  }

  *#rendered(messages: readonly { role: string; content: string }[]): Generator<void, string> {
    try {
      return yield* this.#template.steps({ ...this.#variables, messages });
    } catch (cause) {
      throw invalid(`the chat template refuses them (${(cause as Error).message})`, { cause });
    }
  }

  /** Whether the marks are all that the template takes: the ids are those of the template as it is written. */
  #agreesWith({ template, tokens }: TemplateSources): boolean {
    const messages = [...EVERYBODY];
    const marked = atOnce(this.#encode(atOnce(this.#rendered(messages))));
    const plainly = new JinjaTemplate(template).render({ ...tokens, messages });
    const whole = this.#tokenizer.encodeTemplated(plainly);
    return marked.length === whole.length && marked.every((id, i) => id === whole[i]);
  }
}

function imitations({ sections, speakers }: Frame): { sections: RegExp; turns: RegExp } {
  const names = sections.map((name) => name.replaceAll(" ", "\\s+")).join("|");
  return {
    sections: new RegExp(`<(\\s*(?:BEGIN|END)\\s+(?:${names})\\s*)>`, "gi"),
    // What the template writes: capitals, at a line's start. Were a break of lines among the white space after one, each of
    // many would be gone through from each.
    turns: new RegExp(`^([^\\S\\n\\r\\u2028\\u2029]*)((?:${speakers.join("|")})\\s*:)`, "gm"),
  };
}
