import { Reply } from "../reply.js";
import { RequestError } from "./api-error.js";
import { ChoicesAnswer, countOf, rejectUnknown, stopChoices } from "./choices.js";
import type { Dialect, Event, Place, Prompt, Routed, WholeText } from "./dialect.js";
import { type Json, list, record, text } from "./json.js";

const MOST_CHOICES = 4096;

/** `/v1/completions` */
export const completions: Dialect = {
  ask(body) {
    const texts = promptsOf(body.prompt);
    const n = countOf(body.n);
    // Before they are written out: a short request can ask for hundreds of millions.
    if (texts.length * n > MOST_CHOICES) {
      throw new RequestError(400, "too_many_choices", `${texts.length * n} choices are too many.`);
    }
    const prompts = texts.map((prompt): Prompt => {
      const content = prompt + text(body.suffix);
      return { messages: [{ role: "user", content }], lead: "" };
    });
    return {
      choices: prompts.flatMap((prompt) => Array<Prompt>(n).fill(prompt)),
      stream: body.stream === true,
    };
  },

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

function promptsOf(prompt: unknown): string[] {
  const prompts = Array.isArray(prompt) ? prompt : [prompt ?? ""];
  if (prompts.length > 0 && prompts.every((one) => typeof one === "string")) return prompts;
  throw new RequestError(
    400,
    "prompt_unreadable",
    "prompt must be a text or a list of texts: token ids belong to the model's tokenizer, which the guard does not have.",
  );
}
