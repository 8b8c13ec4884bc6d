import { existsSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { disableTelemetry } from "../../src/runtime/telemetry.js";
import type { Generator } from "./generator.js";

/** A text-generation model in transformers.js, in this very process: a folder, or an id of the hub. */
export class TransformersJs implements Generator {
  readonly name: string;
  readonly about: Record<string, unknown>;
  readonly #library: typeof import("@huggingface/transformers");
  readonly #model: Awaited<ReturnType<typeof load>>;
  readonly #prompt: string;

  private constructor(
    name: string,
    library: typeof import("@huggingface/transformers"),
    model: Awaited<ReturnType<typeof load>>,
    prompt: string,
  ) {
    this.name = name;
    this.about = { kind: "transformers.js", gives: "text", version: library.env.version };
    this.#library = library;
    this.#model = model;
    this.#prompt = prompt;
  }

  static async load(model: string, dtype: string, prompt: string): Promise<TransformersJs> {
    disableTelemetry();
    // biome-ignore lint/style/noRestrictedImports: telemetry is off
    const library = await import("@huggingface/transformers").catch((cause) => {
      throw new Error("transformers.js is not installed. Run `npm install @huggingface/transformers`.", {
        cause,
      });
    });
    return new TransformersJs(basename(model), library, await load(library, model, dtype), prompt);
  }

  async *respond(tokens: number, signal: AbortSignal): AsyncGenerator<string> {
    const { InterruptableStoppingCriteria, TextStreamer } = this.#library;
    const { tokenizer, model } = this.#model;
    const stop = new InterruptableStoppingCriteria();
    signal.addEventListener("abort", () => stop.interrupt());
    const texts: string[] = [];
    let wake = () => {};
    const streamer = new TextStreamer(tokenizer, {
      skip_prompt: true,
      callback_function: (text: string) => {
        texts.push(text);
        wake();
      },
    });
    let over = false;
    const generating = model
      .generate({
        ...tokenizer(this.#prompt),
        max_new_tokens: tokens,
        min_new_tokens: tokens,
        do_sample: false,
        streamer,
        stopping_criteria: stop,
      })
      .finally(() => {
        over = true;
        wake();
      });
    generating.catch(() => {});
    try {
      while (!over || texts.length > 0) {
        const text = texts.shift();
        if (text === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else if (text !== "") yield text;
      }
      await generating;
    } finally {
      stop.interrupt();
      await generating.catch(() => {});
    }
  }

  async close(): Promise<void> {
    await this.#model.model.dispose();
  }
}

async function load(library: typeof import("@huggingface/transformers"), name: string, dtype: string) {
  const { AutoModelForCausalLM, AutoTokenizer, env } = library;
  const local = existsSync(name);
  if (local) {
    env.allowRemoteModels = false;
    env.localModelPath = `${dirname(resolve(name))}/`;
  }
  const id = local ? basename(name) : name;
  const tokenizer = await AutoTokenizer.from_pretrained(id);
  const model = await AutoModelForCausalLM.from_pretrained(id, { dtype: dtype as "fp32", device: "cpu" });
  return { tokenizer, model };
}
