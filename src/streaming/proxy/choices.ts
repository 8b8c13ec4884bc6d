import type { Reply } from "../reply.js";
import type { ModerationViolation } from "../violation.js";
import { RequestError } from "./api-error.js";
import type { Answer, Event, Place, Routed } from "./dialect.js";
import { isRecord, type Json, list, record } from "./json.js";

/** An answer in numbered choices, as chat completions and completions stream it. */
export abstract class ChoicesAnswer implements Answer {
  readonly terminator = "[DONE]";
  readonly #replies: Reply<Event | Place>[];
  readonly #bare: { event: Json; choice: Json };
  #base: Json = {};

  /** @param bare the fields of an event of which the server has sent none yet, and of a choice without text */
  constructor(replies: Reply<Event | Place>[], bare: { event: Json; choice: Json }) {
    this.#replies = replies;
    this.#bare = bare;
  }

  /** What one choice of an event holds. `item` makes something that passes in its place among the text. */
  protected abstract readChoice(
    choice: Json,
    index: number,
    reply: Reply<Event | Place>,
    item: (fields: Json, boundary: boolean) => Routed,
  ): Routed[];

  abstract write(choice: number, text: string, place: Place): Event;

  read(event: Json): Routed[] {
    const { choices, usage, ...base } = event;
    this.#base = base;
    const routed = list(choices).flatMap((value) => {
      const choice = record(value);
      const index = Number(choice.index ?? 0);
      rejectUnknown(index, this.#replies.length);
      const item = (fields: Json, boundary: boolean): Routed => ({
        choice: index,
        part: { kind: "item", item: { ...base, choices: [this.#choice(index, fields)] }, boundary },
      });
      return this.readChoice(choice, index, this.#replies[index], item);
    });
    if (usage !== undefined && usage !== null) {
      routed.push({ choice: null, part: { kind: "item", item: { ...base, choices: [], usage } } });
    }
    return routed;
  }

  stop(choice: number, violation: ModerationViolation): Event[] {
    return [{ ...this.event(choice, { finish_reason: "content_filter" }), qwen3guard: violation.toJSON() }];
  }

  fail(error: object): Event {
    return { ...error };
  }

  name(): null {
    return null;
  }

  /** An event like those the server sends. */
  protected event(index: number, fields: Json): Event {
    return { ...this.#bare.event, ...this.#base, choices: [this.#choice(index, fields)] };
  }

  #choice(index: number, fields: Json): Json {
    return { index, ...this.#bare.choice, finish_reason: null, ...fields };
  }
}

/** Marks the choices of a whole answer that were stopped; `cut` takes away what else they hold. */
export function stopChoices(
  body: Json,
  violations: (ModerationViolation | null)[],
  cut: (choice: Json) => void = () => {},
): void {
  for (const [i, choice] of list(body.choices).filter(isRecord).entries()) {
    const violation = violations[Number(choice.index ?? i)];
    if (!violation) continue;
    choice.finish_reason = "content_filter";
    choice.qwen3guard = violation.toJSON();
    choice.logprobs = null;
    cut(choice);
  }
  body.qwen3guard = violations.find((violation) => violation !== null)?.toJSON();
}

/** More choices than asked for cannot be judged: nobody holds a place for them. */
export function rejectUnknown(choice: number, count: number): void {
  if (Number.isInteger(choice) && choice >= 0 && choice < count) return;
  throw new RequestError(
    502,
    "upstream_invalid",
    `The model answered with choice ${choice}, of ${count} asked for.`,
  );
}
