import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { mustWidenBytes } from "../../src/export/integer-kernels.js";
import { MODEL_FILE } from "../../src/export/manifest.js";
import { Binding } from "../../src/ort/binding.js";
import type { CudaGraph, CudaStream } from "../../src/ort/cuda/stream.js";
import { Inbox } from "../../src/ort/inbox.js";
import { Memory } from "../../src/ort/memory.js";
import { CPU, type Place } from "../../src/ort/place.js";
import { Session } from "../../src/ort/session.js";
import { ELEMENT, type ElementType, Tensor } from "../../src/ort/tensor.js";
import { GENERATOR_FILE, type GeneratorManifest } from "./export.js";

/** Tokens of a prompt that run at once. */
const CHUNK = 256;
/** Steps before one is recorded: they load kernels and allocate, which a recording must not. */
const WARM_UPS = 2;

export interface TokenLoopOptions {
  threads: number;
  /** Tokens that fit, prompt and response. */
  maxTokens: number;
  /** Default: the CPU. */
  place?: Place;
}

/**
 * The least that generates: one sequence, its cache bound in place, and the id that a step gives bound as the id that
 * the next one takes. On a GPU a step is a CUDA graph.
 */
export class TokenLoop {
  readonly manifest: GeneratorManifest;
  readonly #session: Session;
  readonly #maxTokens: number;
  readonly #memories: { free(): void }[] = [];
  readonly #tensors: Tensor[] = [];
  readonly #cache: [string, Tensor][] = [];
  readonly #idsInbox: Inbox;
  readonly #ids: BigInt64Array;
  readonly #nextMemory: Memory;
  readonly #next: BigInt64Array;
  readonly #lengthInbox: Inbox;
  readonly #lastPosition: Int32Array;
  readonly #totalMemory: Memory;
  readonly #total: Int32Array;
  readonly #bindings = new Map<number, Binding>();
  #graph: CudaGraph | null = null;
  #length = 0;
  #steps = 0;
  /** Ends when the run under way does. */
  #busy: Promise<unknown> = Promise.resolve();

  private constructor(session: Session, manifest: GeneratorManifest, maxTokens: number) {
    this.#session = session;
    this.manifest = manifest;
    this.#maxTokens = maxTokens;
    const { stream, place } = session;
    const { layers, kvHeads } = manifest.config;
    const dims = [1, kvHeads, maxTokens, manifest.cachedHeadSize];
    const bytes = dims.reduce((n, dim) => n * dim, ELEMENT[manifest.cacheType].bytes);
    for (let layer = 0; layer < layers; layer++) {
      for (const side of ["key", "value"]) {
        const memory = this.#keep(Memory.allocate(bytes, place));
        this.#cache.push([`${layer}.${side}`, this.#view(memory, manifest.cacheType, dims)]);
      }
    }
    this.#idsInbox = this.#keep(new Inbox(CHUNK * ELEMENT.int64.bytes, stream));
    this.#ids = new BigInt64Array(this.#idsInbox.view());
    this.#nextMemory = this.#keep(Memory.shared(ELEMENT.int64.bytes, place));
    this.#next = new BigInt64Array(this.#nextMemory.view());
    this.#lengthInbox = this.#keep(new Inbox(ELEMENT.int32.bytes, stream));
    this.#lastPosition = new Int32Array(this.#lengthInbox.view());
    // Read by the host, on a GPU too.
    this.#totalMemory = this.#keep(Memory.allocate(ELEMENT.int32.bytes, CPU));
    this.#total = new Int32Array(this.#totalMemory.view());
  }

  static async load(dir: string, { threads, maxTokens, place }: TokenLoopOptions): Promise<TokenLoop> {
    const manifest: GeneratorManifest = JSON.parse(await readFile(join(dir, GENERATOR_FILE), "utf8"));
    const widenBytes = manifest.dtype === "w8a8" && (await mustWidenBytes());
    const session = await Session.load(join(dir, MODEL_FILE), { threads, widenBytes, place });
    return new TokenLoop(session, manifest, maxTokens);
  }

  /** Begins anew with a prompt. Returns the first token of the response. */
  async prefill(ids: readonly number[]): Promise<number> {
    await this.#busy.catch(() => {});
    this.#length = 0;
    let next = 0;
    for (let at = 0; at < ids.length; at += CHUNK) {
      const chunk = ids.slice(at, at + CHUNK);
      // A chunk of one takes its id from where steps take theirs.
      const target = chunk.length === 1 ? this.#next : this.#ids;
      target.set(chunk.map(BigInt));
      this.#idsInbox.publish();
      next = await this.#advance(chunk.length, this.#run);
    }
    return next;
  }

  /** Takes the token that came last. Returns the next. */
  step(): Promise<number> {
    const { stream } = this.#session;
    const replay = stream !== null && this.#steps++ >= WARM_UPS;
    return this.#advance(1, replay ? () => this.#replay(stream) : this.#run);
  }

  async release(): Promise<void> {
    await this.#busy.catch(() => {});
    this.#graph?.release();
    for (const binding of this.#bindings.values()) binding.release();
    for (const tensor of this.#tensors) tensor.release();
    for (const memory of this.#memories) memory.free();
    this.#session.release();
  }

  async #advance(count: number, run: (count: number) => Promise<void>): Promise<number> {
    if (this.#length + count > this.#maxTokens) throw new RangeError(`more than ${this.#maxTokens} tokens`);
    this.#length += count;
    this.#lastPosition[0] = this.#length - 1;
    this.#lengthInbox.publish();
    this.#busy = run(count);
    await this.#busy;
    return Number(this.#next[0]);
  }

  #run = (count: number): Promise<void> => {
    this.#total[0] = this.#length;
    return this.#bind(count).run();
  };

  #replay(stream: CudaStream): Promise<void> {
    if (!this.#graph) {
      // A number on the host is part of the recording: the largest, and kernels stop at the row's own length.
      this.#total[0] = this.#maxTokens;
      this.#graph = stream.capture(() => this.#bind(1).enqueue());
    }
    this.#graph.launch();
    return stream.finished();
  }

  #bind(count: number): Binding {
    let binding = this.#bindings.get(count);
    if (!binding) {
      binding = new Binding(this.#session);
      for (const [name, tensor] of this.#cache) {
        binding.input(`past.${name}`, tensor);
        binding.output(`present.${name}`, tensor);
      }
      const ids = count === 1 ? this.#nextMemory : this.#idsInbox.memory;
      binding.input("input_ids", this.#view(ids, "int64", [1, count]));
      binding.input("seqlens_k", this.#view(this.#lengthInbox.memory, "int32", [1]));
      binding.input("total_sequence_length", this.#view(this.#totalMemory, "int32", []));
      binding.output("next_id", this.#view(this.#nextMemory, "int64", [1, 1]));
      this.#bindings.set(count, binding);
    }
    return binding;
  }

  #view(memory: Memory, type: ElementType, dims: number[]): Tensor {
    const tensor = Tensor.view(memory, 0, type, dims);
    this.#tensors.push(tensor);
    return tensor;
  }

  #keep<T extends { free(): void }>(memory: T): T {
    this.#memories.push(memory);
    return memory;
  }
}
