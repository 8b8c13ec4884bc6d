import { InputError } from "../../errors.js";

type Json = Record<string, unknown>;

/** A model's text out of the events of its API, with reasoning between `<think>` and `</think>` as Qwen3 writes it. */
export class EventText {
  readonly #source: string;
  #thinking = false;

  /** @param source what the events come from, for messages */
  constructor(source: string) {
    this.#source = source;
  }

  /**
   * The text that an event adds: of OpenAI's chat completions, completions and responses, of Anthropic's messages, of
   * Ollama's chat and generate. "" for one that adds none.
   *
   * @throws {InputError} EVENT_INVALID: no JSON object; a second choice, which would be another text; the API's own error
   */
  of(json: string, where: string): string {
    const event = this.#parse(json, where);
    const error = event.error || record(event.response).error || (event.type === "error" && event.message);
    if (error) throw this.#invalid(`${where} tells of an error: ${JSON.stringify(error)}`);
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

  #added(event: Json, where: string): { reasoning: string; content: string } {
    if (Array.isArray(event.choices)) {
      const added = { reasoning: "", content: "" };
      for (const choice of event.choices.map(record)) {
        if (Number(choice.index ?? 0) !== 0) {
          throw this.#invalid(`${where} belongs to a second choice; ask for one (n: 1)`);
        }
        const delta = record(choice.delta ?? choice.message);
        added.reasoning += text(delta.reasoning_content ?? delta.reasoning);
        if (typeof delta.content === "object" && delta.content !== null) {
          throw this.#invalid(`the content of ${where} is no text`);
        }
        added.content += text(delta.content) + text(delta.refusal) + text(choice.text);
      }
      return added;
    }
    const type = text(event.type);
    if (type.startsWith("response.")) {
      if (/^response\.reasoning\w*\.delta$/.test(type)) return { reasoning: text(event.delta), content: "" };
      const says = type === "response.output_text.delta" || type === "response.refusal.delta";
      return { reasoning: "", content: says ? text(event.delta) : "" };
    }
    if (type === "content_block_delta") {
      const delta = record(event.delta);
      return { reasoning: text(delta.thinking), content: text(delta.text) };
    }
    const message = record(event.message);
    return {
      reasoning: text(message.thinking ?? event.thinking),
      content: type === "" ? text(message.content ?? event.response) : "",
    };
  }

  #parse(json: string, where: string): Json {
    let event: unknown;
    try {
      event = JSON.parse(json);
    } catch (cause) {
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

function record(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
