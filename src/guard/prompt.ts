import type { Ahead } from "../engine/read-ahead.js";
import type { PromptScope } from "../moderation/policy.js";
import type { Prefix } from "../tokenizer/chat-template/template.js";

/** A conversation that was templated and encoded once, for streams that share it: `guard.prompt` makes it. */
export class Prompt {
  /** A promise while a long one is still being encoded. */
  readonly prefix: Prefix | Promise<Prefix>;

  /** What the conversation's next turn will begin with, after an answer; null where nothing is known of it. */
  readonly goingOn: ((answer: string) => Promise<Ahead | null>) | null;

  /** What of it counts; undefined where nobody said. */
  readonly scope: PromptScope | undefined;

  constructor(
    prefix: Prefix | Promise<Prefix>,
    goingOn: Prompt["goingOn"] = null,
    scope: PromptScope | undefined = undefined,
  ) {
    this.prefix = prefix;
    this.scope = scope;
    this.goingOn = goingOn;
    // It is for the streams to say what went wrong.
    if (prefix instanceof Promise) prefix.catch(() => {});
  }
}
