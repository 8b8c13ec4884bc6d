import { type ChatTemplate, type Message, promptIndexOf } from "../tokenizer/chat-template/template.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { EvaluationType } from "./row.js";

/** A whole templated conversation, and where in it what is judged begins. */
export interface Conversation {
  ids: number[];
  /** The first position judged: the prompt's `<|im_end|>`, or the first one of the response. */
  start: number;
}

export type JudgedPart = { type: EvaluationType; reasoning: boolean };

/**
 * Templates conversations as the official evaluation does: the whole of them at once, the response's closing
 * `<|im_end|>` and line break included. One thing is safer here: control tokens written out in a message stay text.
 */
export class Conversations {
  readonly tokenizer: Tokenizer;
  readonly #template: ChatTemplate;
  readonly #part: JudgedPart;
  readonly #assistant: number[];
  readonly #blankLine: number[];

  constructor(tokenizer: Tokenizer, template: ChatTemplate, part: JudgedPart) {
    this.tokenizer = tokenizer;
    this.#template = template;
    this.#part = part;
    this.#assistant = [tokenizer.tokenId("<|im_start|>") as number, ...tokenizer.encode("assistant")];
    this.#blankLine = tokenizer.encode("\n\n");
  }

  /**
   * Returns what is wrong with the messages where they have no such part.
   * @throws {InputError} MESSAGES_INVALID
   */
  encode(messages: readonly Message[]): Conversation | { problem: string } {
    const ids = this.#template.conversation(messages);
    if (this.#part.type === "prompt") {
      const start = promptIndexOf(ids, this.tokenizer);
      return start === null ? { problem: "no user turn that ends" } : { ids, start };
    }
    const start = this.#part.reasoning ? this.#reasoningStart(ids) : this.#answerStart(ids);
    return start === null
      ? { problem: "the template shows no answer, or one without a think block" }
      : { ids, start };
  }

  /** After `<think>` and its line break, in the last assistant turn. */
  #reasoningStart(ids: readonly number[]): number | null {
    const think = ids.indexOf(this.tokenizer.tokenId("<think>") as number, this.#lastTurn(ids));
    return think === -1 ? null : think + 2;
  }

  /** After `</think>` and a blank line, in the last assistant turn. */
  #answerStart(ids: readonly number[]): number | null {
    const end = this.tokenizer.tokenId("</think>") as number;
    let think = ids.indexOf(end, this.#lastTurn(ids));
    while (think !== -1 && !holds(ids, think + 1, this.#blankLine)) think = ids.indexOf(end, think + 1);
    return think === -1 ? null : think + 1 + this.#blankLine.length;
  }

  #lastTurn(ids: readonly number[]): number {
    let turn = ids.length - 1;
    while (turn > 0 && !holds(ids, turn, this.#assistant)) turn--;
    return turn;
  }
}

function holds(ids: readonly number[], at: number, part: readonly number[]): boolean {
  return part.every((id, i) => ids[at + i] === id);
}
