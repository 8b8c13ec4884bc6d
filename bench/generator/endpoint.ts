import { sseText } from "../../src/gate/inputs/sse.js";
import type { Generator } from "./generator.js";

/** A model behind OpenAI's chat completions API: vLLM, llama.cpp, Ollama, a hosted one. */
export class Endpoint implements Generator {
  readonly name: string;
  readonly about: Record<string, unknown>;
  readonly #url: string;
  readonly #model: string;
  readonly #prompt: string;

  /** @param base as OpenAI's clients take it, for example http://127.0.0.1:8000/v1; OPENAI_API_KEY is sent if it is set */
  constructor(base: string, model: string, prompt: string) {
    this.#url = `${base.replace(/\/$/, "")}/chat/completions`;
    this.#model = model;
    this.#prompt = prompt;
    this.name = model;
    this.about = { kind: "endpoint", gives: "text", model };
  }

  async *respond(tokens: number, signal: AbortSignal): AsyncGenerator<string> {
    const key = process.env.OPENAI_API_KEY;
    const response = await fetch(this.#url, {
      method: "POST",
      signal,
      headers: { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) },
      body: JSON.stringify({
        model: this.#model,
        messages: [{ role: "user", content: this.#prompt }],
        max_tokens: tokens,
        temperature: 0,
        stream: true,
      }),
    });
    if (!response.ok || !response.body) {
      throw new Error(`${this.#url} answered ${response.status}: ${(await response.text()).slice(0, 300)}`);
    }
    yield* sseText(response.body.pipeThrough(new TextDecoderStream()));
  }

  async close(): Promise<void> {}
}
