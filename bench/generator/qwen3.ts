import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Dtype } from "../../src/export/manifest.js";
import { CPU, parseDevice } from "../../src/ort/place.js";
import { BENCH_CACHE, benchIds } from "../model.js";
import { exportGenerator } from "./export.js";
import type { Generator } from "./generator.js";
import { RandomWeights } from "./random-weights.js";
import { qwen3Shape } from "./shapes.js";
import { TokenLoop } from "./token-loop.js";

export interface Qwen3Options {
  dtype: Dtype;
  /** cpu, cuda or cuda:N */
  device: string;
  promptTokens: number;
  /** Tokens that fit, prompt and response. */
  maxTokens: number;
}

/** A Qwen3 of a given size in this process, on the guard's device, with random weights. */
export class Qwen3 implements Generator {
  readonly name: string;
  readonly about: Record<string, unknown>;
  readonly #loop: TokenLoop;
  readonly #prompt: number[];

  private constructor(name: string, about: Record<string, unknown>, loop: TokenLoop, promptTokens: number) {
    this.name = name;
    this.about = about;
    this.#loop = loop;
    this.#prompt = benchIds(promptTokens);
  }

  static async load(size: string, { dtype, device, promptTokens, maxTokens }: Qwen3Options): Promise<Qwen3> {
    const name = `qwen3-${size}-${dtype}`;
    const named = parseDevice(device);
    const place = named === "auto" ? CPU : named;
    const dir = join(BENCH_CACHE, `${name}-${place.kind}`);
    if (!existsSync(dir)) {
      console.error(`making ${name} with random weights …`);
      await exportGenerator(new RandomWeights(qwen3Shape(size)), dir, { dtype, device: place.kind });
    }
    const threads = Math.min(availableParallelism(), 8);
    const loop = await TokenLoop.load(dir, { threads, maxTokens, place });
    const about = { kind: "in process", gives: "ids", size, dtype, device, threads, promptTokens };
    return new Qwen3(name, about, loop, promptTokens);
  }

  async *respond(tokens: number, signal: AbortSignal): AsyncGenerator<number> {
    let id = await this.#loop.prefill(this.#prompt);
    for (let i = 0; i < tokens && !signal.aborted; i++) {
      yield id;
      if (i + 1 < tokens) id = await this.#loop.step();
    }
  }

  close(): Promise<void> {
    return this.#loop.release();
  }
}
