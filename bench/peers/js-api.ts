import "../no-telemetry.js";
import { availableParallelism } from "node:os";
import { join } from "node:path";
// biome-ignore lint/style/noRestrictedImports: telemetry is off, by the first import
import ort from "onnxruntime-node";
import type { GuardConfig } from "../../src/model/config.js";
import { type Manifest, MODEL_FILE } from "../../src/model/manifest.js";
import { readManifest } from "../../src/model/read-manifest.js";
import { benchIds } from "../model.js";

/** onnxruntime-node's session.run, with the present tensors of one step as the past of the next. */
export class JsApi {
  readonly #session: ort.InferenceSession;
  readonly #config: GuardConfig;
  readonly #kvCache: Manifest["kvCache"];
  #past: Record<string, ort.Tensor> = {};
  #length = 0;

  private constructor(session: ort.InferenceSession, { config, kvCache }: Manifest) {
    this.#session = session;
    this.#config = config;
    this.#kvCache = kvCache;
  }

  static async load(dir: string): Promise<JsApi> {
    const threads = { intraOpNumThreads: availableParallelism() };
    const session = await ort.InferenceSession.create(join(dir, MODEL_FILE), threads);
    return new JsApi(session, await readManifest(dir));
  }

  async prefill(count: number): Promise<void> {
    this.#length = 0;
    this.#past = {};
    for (let layer = 0; layer < this.#config.layers; layer++) {
      for (const side of ["key", "value"]) this.#past[`past.${layer}.${side}`] = this.#empty();
    }
    await this.run(benchIds(count));
  }

  step(): Promise<void> {
    return this.run(benchIds(1, this.#length));
  }

  async run(ids: number[]): Promise<void> {
    const total = this.#length + ids.length;
    const outputs = await this.#session.run({
      ...this.#past,
      input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
      seqlens_k: new ort.Tensor("int32", Int32Array.of(total - 1), [1]),
      total_sequence_length: new ort.Tensor("int32", Int32Array.of(total), []),
    });
    this.#length = total;
    this.#past = Object.fromEntries(
      Object.entries(outputs)
        .filter(([name]) => name.startsWith("present."))
        .map(([name, tensor]) => [name.replace("present.", "past."), tensor as ort.Tensor]),
    );
  }

  #empty(): ort.Tensor {
    const dims = [1, this.#config.kvHeads, 0, this.#config.headDim];
    if (this.#kvCache === "int8") return new ort.Tensor("int8", new Int8Array(0), dims);
    return new ort.Tensor("float32", new Float32Array(0), dims);
  }
}
