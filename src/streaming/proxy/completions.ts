import { Reply } from "../reply.js";
import { RequestError } from "./api-error.js";
import { countOf, rejectUnknown } from "./chat.js";
import type { Answer, Dialect, Event, Place, Prompt, Routed, WholeText } from "./dialect.js";
import { isRecord, type Json, list, record, text } from "./json.js";

/** `/v1/completions` */
export const completions: Dialect = {
  ask(body) {
    const n = countOf(body.n);
    const prompts = promptsOf(body.prompt).map((prompt): Prompt => {
      const content = prompt + text(body.suffix);
      return { messages: [{ role: "user", content }], lead: "" };
    });
    return {
      choices: prompts.flatMap((prompt) => Array<Prompt>(n).fill(prompt)),
      stream: body.stream === true,
    };
  },

  answer: (ask) => new CompletionsAnswer(ask.choices.map(() => new Reply<Event | Place>())),

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

  stopWhole(body, violations) {
    for (const [i, choice] of list(body.choices).filter(isRecord).entries()) {
      const violation = violations[Number(choice.index ?? i)];
      if (!violation) continue;
      choice.finish_reason = "content_filter";
      choice.moderation = violation.toJSON();
      choice.logprobs = null;
    }
    body.moderation = violations.find((violation) => violation !== null)?.toJSON();
  },
};

class CompletionsAnswer implements Answer {
  readonly terminator = "[DONE]";
  readonly #replies: Reply<Event | Place>[];
  readonly #place: Place = { field: "text", base: {} };
  #base: Json = {};

  constructor(replies: Reply<Event | Place>[]) {
    this.#replies = replies;
  }

  read(event: Json): Routed[] {
    const { choices, usage, ...base } = event;
    this.#base = base;
    const routed: Routed[] = [];
    for (const value of list(choices)) {
      const { index, text: added, finish_reason: finish, logprobs } = record(value);
      const choice = Number(index ?? 0);
      rejectUnknown(choice, this.#replies.length);
      const parts = this.#replies[choice].text("content", text(added), this.#place);
      for (const part of parts) routed.push({ choice, part });
      if (logprobs || finish) {
        const item = {
          ...base,
          choices: [{ index: choice, text: "", logprobs: logprobs ?? null, finish_reason: finish ?? null }],
        };
        routed.push({ choice, part: { kind: "item", item, boundary: Boolean(finish) } });
      }
    }
    if (usage !== undefined && usage !== null) {
      routed.push({ choice: null, part: { kind: "item", item: { ...base, choices: [], usage } } });
    }
    return routed;
  }

  write(choice: number, released: string): Event {
    return this.#event(choice, released, null);
  }

  stop(choice: number, violation: { toJSON(): object }): Event[] {
    return [{ ...this.#event(choice, "", "content_filter"), moderation: violation.toJSON() }];
  }

  fail(error: object): Event {
    return { ...error };
  }

  name(): null {
    return null;
  }

  #event(index: number, released: string, finish_reason: string | null): Event {
    return {
      id: "cmpl-moderated",
      object: "text_completion",
      ...this.#base,
      choices: [{ index, text: released, logprobs: null, finish_reason }],
    };
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
