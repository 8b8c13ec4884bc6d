import type { Prefix } from "./tokenizer/template.js";

/** A conversation that was templated and encoded once, for streams that share it: `guard.prompt` makes it. */
export class Prompt {
  /** A promise while a long one is still being encoded. */
  readonly prefix: Prefix | Promise<Prefix>;

  constructor(prefix: Prefix | Promise<Prefix>) {
    this.prefix = prefix;
    // It is for the streams to say what went wrong.
    if (prefix instanceof Promise) prefix.catch(() => {});
  }
}
