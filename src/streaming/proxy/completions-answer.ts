import { Reply } from "../reply.js";
import { ChoicesAnswer, rejectUnknown, stopChoices } from "./choices.js";
import type { Answers, Event, Place, Routed, WholeText } from "./dialect.js";
import { type Json, list, record, text } from "./json.js";

/** `/v1/completions` */
export const completionsAnswers: Answers = {
  answer: (ask) => new CompletionsAnswer(ask.choices.map(() => new Reply<Event | Place>())),

  list: "choices",

  whole(body, ask) {
    return list(body.choices).map((value, i): WholeText => {
      const own = record(value);
      const choice = Number(own.index ?? i);
      rejectUnknown(choice, ask.choices.length);
      const set = (passed: string) => {
        own.text = passed;
      };
      return { choice, channel: "content", text: text(own.text), set };
    });
  },

  stopWhole: stopChoices,
};

class CompletionsAnswer extends ChoicesAnswer {
  readonly #place: Place = { field: "text", base: {} };

  constructor(replies: Reply<Event | Place>[]) {
    super(replies, {
      event: { id: "cmpl-moderated", object: "text_completion" },
      choice: { text: "", logprobs: null },
    });
  }

  write(choice: number, released: string): Event {
    return this.event(choice, { text: released });
  }

  protected readChoice(
    own: Json,
    choice: number,
    reply: Reply<Event | Place>,
    item: (fields: Json, boundary: boolean) => Routed,
  ): Routed[] {
    const parts = reply.text("content", text(own.text), this.#place);
    const routed: Routed[] = parts.map((part) => ({ choice, part }));
    const { logprobs = null, finish_reason = null } = own;
    if (logprobs || finish_reason) routed.push(item({ logprobs, finish_reason }, Boolean(finish_reason)));
    return routed;
  }
}
