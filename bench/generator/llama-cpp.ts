import { availableParallelism } from "node:os";
import { basename, resolve } from "node:path";
import type { Generator } from "./generator.js";

/** What is used of node-llama-cpp, which is no dependency: `npm install --prefix bench/peers`. */
interface Sequence {
  clearHistory(): Promise<void>;
  evaluate(tokens: number[], options: object): AsyncIterable<number>;
}
interface Model {
  tokenize(text: string): number[];
  detokenize(tokens: number[], special: boolean, before?: number[]): string;
  createContext(options: object): Promise<{ getSequence(): Sequence; dispose(): Promise<void> }>;
  dispose(): Promise<void>;
}

/** A language model in llama.cpp, in this very process and on the same cores: any GGUF. */
export class LlamaCpp implements Generator {
  readonly name: string;
  readonly about: Record<string, unknown> = { kind: "llama.cpp", gives: "text", version: "node-llama-cpp" };
  readonly #model: Model;
  readonly #context: Awaited<ReturnType<Model["createContext"]>>;
  readonly #sequence: Sequence;
  readonly #prompt: number[];

  private constructor(
    name: string,
    model: Model,
    context: Awaited<ReturnType<Model["createContext"]>>,
    prompt: string,
  ) {
    this.name = name;
    this.#model = model;
    this.#context = context;
    this.#sequence = context.getSequence();
    this.#prompt = model.tokenize(prompt);
  }

  /** @param tokens that a response may have */
  static async load(path: string, prompt: string, tokens: number): Promise<LlamaCpp> {
    const library = new URL("../peers/node_modules/node-llama-cpp/dist/index.js", import.meta.url).href;
    const { getLlama } = await import(library).catch((cause) => {
      throw new Error("node-llama-cpp is not installed. Run `npm install --prefix bench/peers`.", { cause });
    });
    const llama = await getLlama({ gpu: false, build: "never", maxThreads: availableParallelism() });
    const model: Model = await llama.loadModel({ modelPath: resolve(path), gpuLayers: 0 });
    const contextSize = model.tokenize(prompt).length + tokens + 8;
    const context = await model.createContext({ contextSize, threads: availableParallelism() });
    return new LlamaCpp(basename(path), model, context, prompt);
  }

  async *respond(tokens: number, signal: AbortSignal): AsyncGenerator<string> {
    await this.#sequence.clearHistory();
    const said: number[] = [];
    // Greedy, and on past an end, so that every response is as long.
    for await (const token of this.#sequence.evaluate(this.#prompt, {
      temperature: 0,
      yieldEogToken: true,
    })) {
      if (signal.aborted) return;
      const text = this.#model.detokenize([token], true, said.slice(-8));
      said.push(token);
      if (text !== "") yield text;
      if (said.length === tokens) return;
    }
  }

  async close(): Promise<void> {
    await this.#context.dispose();
    await this.#model.dispose();
  }
}
