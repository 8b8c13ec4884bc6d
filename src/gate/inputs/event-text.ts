import { InputError } from "../../errors.js";
import { isRecord, type Json } from "../../validation/json.js";
import { type ToldError, toldError } from "../told-error.js";
import { cut, isLast, ModelEvents } from "./model-events.js";

/** Longest message of a server's that is told. Characters. */
const LONGEST_MESSAGE = 500;

/** A model's text out of the events of its API, with reasoning between `<think>` and `</think>` as Qwen3 writes it. */
export class EventText {
  readonly #events: ModelEvents;
  readonly #thoughts = new Thoughts();
  #finished = false;

  /** @param source what the events come from, for messages */
  constructor(source: string) {
    this.#events = new ModelEvents(source);
  }

  /**
   * The text that an event adds, "" for one that adds none.
   *
   * @param where the event, for messages
   * @param name the event's own name, where it has one
   * @throws {InputError} EVENT_INVALID: no JSON object; a second choice, which would be another text. UPSTREAM_ERROR: the
   *   API's own error
   */
  of(json: string, where: string, name?: string): string {
    const event = this.#parse(json, where, name);
    const error = toldError(event, name);
    if (error) throw upstreamError(where, error);
    this.#finished ||= isLast(event);
    const { reasoning = "", content = "" } = this.#events.read(event, where) ?? {};
    return this.#thoughts.add(reasoning, content);
  }

  /** The events are over. @throws {InputError} UPSTREAM_CUT: none of them said that the answer is */
  end(): void {
    if (this.#finished) return;
    throw cut("stopped before its answer was finished: nothing of it says why it ended");
  }

  #parse(json: string, where: string, name?: string): Json {
    let event: unknown;
    try {
      event = JSON.parse(json);
    } catch (cause) {
      if (name === "error") throw upstreamError(where, { message: json, code: null });
      throw this.#events.invalid(`${where} is not JSON`, { cause });
    }
    if (!isRecord(event)) throw this.#events.invalid(`${where} is not a JSON object`);
    return event;
  }
}

/** Reasoning and content as one text. */
export class Thoughts {
  #thinking = false;

  add(reasoning: string, content: string): string {
    let text = "";
    if (reasoning !== "") {
      if (!this.#thinking) text += "<think>\n";
      this.#thinking = true;
      text += reasoning;
    }
    if (content !== "") {
      if (this.#thinking) text += "\n</think>\n\n";
      this.#thinking = false;
      text += content;
    }
    return text;
  }
}

/** The API's own error, by its own words. */
export function upstreamError(where: string, { message, code }: ToldError, cause?: unknown): InputError {
  const short = message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)}…` : message;
  const named = code === null ? "" : ` (${code.slice(0, 64)})`;
  return new InputError(
    "UPSTREAM_ERROR",
    `The model's server failed: ${where} tells of an error: ${JSON.stringify(short)}${named}.`,
    { cause },
  );
}
