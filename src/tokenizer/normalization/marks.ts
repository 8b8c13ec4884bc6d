import { randomBytes } from "node:crypto";
import type { Part } from "../chat-template/parts.js";
import type { Tokenizer } from "../tokenizer.js";

/**
 * Stand-ins for a tokenizer's control tokens in the text of a template. They are random, so content cannot hold them:
 * in what is rendered, each of them is a control token, and the same token written out in content is plain text.
 */
export class Marks {
  /** Text that no message holds: part of each mark, and of whatever else stands for something in a template. */
  readonly nonce = randomBytes(16).toString("hex");
  readonly #ids = new Map<string, number>();
  readonly #marks = new Map<string, string>();

  constructor(tokenizer: Tokenizer) {
    for (const [token, id] of tokenizer.controlTokens) {
      const mark = `${this.nonce}x${this.#ids.size}x`;
      this.#ids.set(mark, id);
      this.#marks.set(token, mark);
    }
  }

  /** A template's own text, with each control token as its mark. */
  mark(text: string): string {
    for (const [token, mark] of this.#marks) text = text.replaceAll(token, mark);
    return text;
  }

  /** What was rendered, in control tokens and the text between them. */
  parts(rendered: string): Part[] {
    const { nonce } = this;
    const parts: Part[] = [];
    let from = 0;
    for (let at = rendered.indexOf(nonce); at !== -1; at = rendered.indexOf(nonce, Math.max(at + 1, from))) {
      NUMBER.lastIndex = at + nonce.length;
      const number = NUMBER.exec(rendered)?.[0];
      if (number === undefined) continue;
      if (at > from) parts.push(rendered.slice(from, at));
      const mark = nonce + number;
      parts.push(this.#ids.get(mark) ?? mark);
      from = at + mark.length;
    }
    if (from < rendered.length) parts.push(rendered.slice(from));
    return parts;
  }
}

/** What a mark ends with. */
const NUMBER = /x\d+x/y;
