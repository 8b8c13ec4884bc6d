import { InputError } from "../../errors.js";
import { type ToldError, toldError } from "../told-error.js";

type Json = Record<string, unknown>;

/** What an event adds to an answer. */
interface Added {
  reasoning: string;
  content: string;
}

/** Longest message of a server's that is told. Characters. */
const LONGEST_MESSAGE = 500;

const RESPONSES_DELTA = /^response\.(output_text|refusal|reasoning\w*)\.delta$/;
const RESPONSES_DONE = /^response\.(output_text|refusal|reasoning\w*)\.done$/;

/** A model's text out of the events of its API, with reasoning between `<think>` and `</think>` as Qwen3 writes it. */
export class EventText {
  readonly #source: string;
  #thinking = false;
  #finished = false;
  /** Of a response: all that came, as later events say it over again. */
  #said = "";

  /** @param source what the events come from, for messages */
  constructor(source: string) {
    this.#source = source;
  }

  /**
   * The text that an event adds: of OpenAI's chat completions, completions and responses, of Anthropic's messages, of
   * Ollama's chat and generate. "" for one that adds none. Where it holds text in several fields, all of it counts.
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
    const { reasoning, content } = this.#added(event, where);
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

  /** The events are over. @throws {InputError} UPSTREAM_CUT: none of them said that the answer is */
  end(): void {
    if (this.#finished) return;
    throw new InputError(
      "UPSTREAM_CUT",
      "The model's stream stopped before its answer was finished: nothing of it says why it ended. What came was judged.",
    );
  }

  #added(event: Json, where: string): Added {
    if (Array.isArray(event.choices)) return this.#ofChoices(event.choices.map(record), where);
    const type = text(event.type);
    if (type.startsWith("response.")) return this.#ofResponse(event, type);
    if (type !== "") return ofMessages(event, type);
    const message = record(event.message);
    return {
      reasoning: joined(message.thinking, event.thinking),
      content: joined(message.content, event.response),
    };
  }

  #ofChoices(choices: Json[], where: string): Added {
    const added = { reasoning: "", content: "" };
    for (const choice of choices) {
      if (Number(choice.index ?? 0) !== 0) {
        throw this.#invalid(`${where} belongs to a second choice; ask for one (n: 1)`);
      }
      for (const said of [choice.delta, choice.message].map(record)) {
        const parts = this.#parts(said.content, where);
        added.reasoning += joined(said.reasoning_content, said.reasoning) + parts.reasoning;
        added.content += parts.content + text(said.refusal);
      }
      added.content += text(choice.text);
    }
    return added;
  }

  /** A message's content: a text, or parts as Mistral writes them. */
  #parts(content: unknown, where: string): Added {
    if (typeof content !== "object" || content === null) return { reasoning: "", content: text(content) };
    if (!Array.isArray(content)) throw this.#invalid(`the content of ${where} is no text`);
    const added = { reasoning: "", content: "" };
    for (const part of content.map(record)) {
      const own = part.type === "thinking" ? this.#parts(part.thinking, where) : null;
      if (own) added.reasoning += own.reasoning + own.content;
      else if (part.type === "text" && typeof part.text === "string") added.content += part.text;
      else throw this.#invalid(`the content of ${where} is no text`);
    }
    return added;
  }

  /** Of `/v1/responses`: deltas, and what is said at the end of a text without having come in any. */
  #ofResponse(event: Json, type: string): Added {
    const [, of = ""] = RESPONSES_DELTA.exec(type) ?? RESPONSES_DONE.exec(type) ?? [];
    let told = "";
    if (RESPONSES_DELTA.test(type)) told = text(event.delta);
    else if (of !== "") told = this.#unsaid(text(event.text) + text(event.refusal));
    else if (isLast(event)) told = this.#unsaid(outputText(event.response));
    this.#said += told;
    return of.startsWith("reasoning") ? { reasoning: told, content: "" } : { reasoning: "", content: told };
  }

  #unsaid(told: string): string {
    return this.#said.includes(told) ? "" : told;
  }

  #parse(json: string, where: string, name?: string): Json {
    let event: unknown;
    try {
      event = JSON.parse(json);
    } catch (cause) {
      if (name === "error") throw upstreamError(where, { message: json, code: null });
      throw this.#invalid(`${where} is not JSON`, { cause });
    }
    if (typeof event !== "object" || event === null || Array.isArray(event)) {
      throw this.#invalid(`${where} is not a JSON object`);
    }
    return event as Json;
  }

  #invalid(what: string, options?: ErrorOptions): InputError {
    return new InputError("EVENT_INVALID", `This is not ${this.#source} as it should be: ${what}.`, options);
  }
}

/** The API's own error, by its own words. */
export function upstreamError(where: string, { message, code }: ToldError): InputError {
  const short = message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)}…` : message;
  const named = code === null ? "" : ` (${code.slice(0, 64)})`;
  return new InputError(
    "UPSTREAM_ERROR",
    `The model's server failed: ${where} tells of an error: ${JSON.stringify(short)}${named}.`,
  );
}

/** Of Anthropic's messages. */
function ofMessages(event: Json, type: string): Added {
  const said = { content_block_start: event.content_block, content_block_delta: event.delta }[type];
  const { thinking, text: own } = record(said);
  return { reasoning: text(thinking), content: text(own) };
}

/** Whether an event says that the answer is at its end. */
function isLast(event: Json): boolean {
  const choices = Array.isArray(event.choices) ? event.choices.map(record) : [];
  return (
    choices.some(({ finish_reason: reason }) => typeof reason === "string" && reason !== "") ||
    ["response.completed", "response.incomplete", "message_stop"].includes(text(event.type)) ||
    text(record(event.delta).stop_reason) !== "" ||
    event.done === true
  );
}

/** The text of a whole response. */
function outputText(response: unknown): string {
  const items = record(response).output;
  const parts = (Array.isArray(items) ? items : []).map(record).flatMap(({ content }) => content ?? []);
  return parts.map((part) => text(record(part).text) + text(record(part).refusal)).join("");
}

/** Texts of fields that servers name in several ways; the same twice counts once. */
function joined(...values: unknown[]): string {
  return [...new Set(values.map(text))].join("");
}

function record(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
