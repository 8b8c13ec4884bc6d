import { basename, resolve } from "node:path";

/** What is used of node-llama-cpp, which is no dependency: `npm install --prefix bench/peers`. */
interface Chat {
  generateResponse(history: object[], options: object): Promise<unknown>;
}
interface Model {
  createContext(options: object): Promise<{ getSequence(): object; dispose(): Promise<void> }>;
  dispose(): Promise<void>;
}

export interface Asked {
  question: string;
  /** What the model's own turn begins with. */
  turn: string;
  tokens: number;
  seed: number;
}

/** A language model that chats in llama.cpp, in this very process: any GGUF that has a chat template. */
export class LlamaChatModel {
  static readonly TEMPERATURE = 0.8;
  readonly name: string;
  readonly #model: Model;
  readonly #context: Awaited<ReturnType<Model["createContext"]>>;
  readonly #chat: Chat;

  private constructor(
    name: string,
    model: Model,
    context: Awaited<ReturnType<Model["createContext"]>>,
    chat: Chat,
  ) {
    this.name = name;
    this.#model = model;
    this.#context = context;
    this.#chat = chat;
  }

  /** One thread: where others share the cores, two wait for each other. */
  static async load(path: string): Promise<LlamaChatModel> {
    const library = new URL("../peers/node_modules/node-llama-cpp/dist/index.js", import.meta.url).href;
    const { getLlama, LlamaChat } = await import(library).catch((cause) => {
      throw new Error("node-llama-cpp is not installed. Run `npm install --prefix bench/peers`.", { cause });
    });
    const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1 });
    const model: Model = await llama.loadModel({ modelPath: resolve(path), gpuLayers: 0 });
    const context = await model.createContext({ contextSize: 1024, threads: 1 });
    const chat = new LlamaChat({ contextSequence: context.getSequence() });
    return new LlamaChatModel(basename(path), model, context, chat);
  }

  /** What the model says, a token each; from where its turn stands. */
  async *answer(asked: Asked, signal: AbortSignal): AsyncGenerator<string> {
    const { question, turn, tokens, seed } = asked;
    const history = [
      { type: "user", text: question },
      { type: "model", response: turn === "" ? [] : [turn] },
    ];
    const said: string[] = [];
    let arrived = () => {};
    let over: { error?: unknown } | null = null;
    const stop = new AbortController();
    const answering = this.#chat
      .generateResponse(history, {
        ...{ maxTokens: tokens, temperature: LlamaChatModel.TEMPERATURE, topP: 0.95, seed },
        ...{ signal: AbortSignal.any([signal, stop.signal]), stopOnAbortSignal: true },
        onTextChunk: (text: string) => {
          said.push(text);
          arrived();
        },
      })
      .then(
        () => {
          over = {};
        },
        (error) => {
          over = { error };
        },
      )
      .finally(() => arrived());
    try {
      for (;;) {
        while (said.length > 0) yield said.shift() as string;
        if (over) break;
        await new Promise<void>((resolve) => {
          arrived = resolve;
        });
      }
      if ("error" in (over as object) && !signal.aborted) throw (over as { error: unknown }).error;
    } finally {
      stop.abort();
      await answering;
    }
  }

  async close(): Promise<void> {
    await this.#context.dispose();
    await this.#model.dispose();
  }
}
