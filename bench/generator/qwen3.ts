import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Engine } from "../../src/engine/engine.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { ClosedError } from "../../src/errors.js";
import { type Dtype, FORMAT } from "../../src/model/manifest.js";
import { type DeviceName, parseDevice } from "../../src/runtime/devices/device-id.js";
import { BENCH_CACHE, benchIds } from "../model.js";
import { exportGenerator } from "./export.js";
import type { Generator } from "./generator.js";
import { RandomWeights } from "./random-weights.js";
import { qwen3Shape } from "./shapes.js";

export interface Qwen3Options {
  dtype: Dtype;
  /** cpu, cuda or cuda:N */
  device: DeviceName;
  promptTokens: number;
  /** Tokens that fit, prompt and response. */
  maxTokens: number;
}

/** A Qwen3 of a given size in this process, on the guard's device, with random weights. */
export class Qwen3 implements Generator {
  readonly name: string;
  readonly about: Record<string, unknown>;
  readonly #engine: Engine;
  readonly #prompt: number[];

  private constructor(name: string, about: Record<string, unknown>, engine: Engine, promptTokens: number) {
    this.name = name;
    this.about = about;
    this.#engine = engine;
    this.#prompt = benchIds(promptTokens);
  }

  static async load(size: string, { dtype, device, promptTokens, maxTokens }: Qwen3Options): Promise<Qwen3> {
    const name = `qwen3-${size}-${dtype}`;
    const asked = parseDevice(device);
    const kind = asked === "auto" ? "cpu" : asked.kind;
    const dir = join(BENCH_CACHE, `${name}-${kind}-${FORMAT}`);
    if (!existsSync(dir)) {
      console.error(`making ${name} with random weights …`);
      await exportGenerator(new RandomWeights(qwen3Shape(size)), dir, { dtype, device: kind });
    }
    const threads = Math.min(availableParallelism(), 8);
    const engine = await Engine.load(dir, { device, threads, maxTokens, maxStreams: 1 });
    const about = { kind: "in process", gives: "ids", size, dtype, device, threads, promptTokens };
    return new Qwen3(name, about, engine, promptTokens);
  }

  async *respond(tokens: number, signal: AbortSignal): AsyncGenerator<number> {
    const sequence = this.#engine.open();
    try {
      let id = await nextId(sequence, this.#prompt);
      for (let i = 0; i < tokens && !signal.aborted; i++) {
        yield id;
        if (i + 1 < tokens) id = await nextId(sequence, [id]);
      }
    } finally {
      sequence.close(new ClosedError("STREAM_CLOSED", "The response is done."));
    }
  }

  close(): Promise<void> {
    return this.#engine.close();
  }
}

/** Feeds tokens, and gives the likeliest one after them. */
export async function nextId(sequence: Sequence, ids: readonly number[]): Promise<number> {
  let next = 0;
  await sequence.feed(ids, ({ next_id }, _index, _position, row) => {
    next = next_id[row];
  });
  return next;
}
