import type { Manifest } from "../src/model/manifest.js";
import { type Handle, ortApi } from "../src/runtime/api.js";
import { cpu } from "../src/runtime/devices/cpu.js";
import type { Memory } from "../src/runtime/memory.js";
import type { Session } from "../src/runtime/session.js";
import { ELEMENT, type ElementType, Tensor } from "../src/runtime/tensor.js";

/**
 * The least a program can do on the same graph: one sequence, one binding for each step length, RunWithBinding called
 * on the main thread. It checks nothing, shares nothing and blocks the event loop: the yardstick, not a contender.
 */
export class BareLoop {
  readonly #session: Session;
  readonly #manifest: Manifest;
  readonly #cache: [string, Tensor][] = [];
  readonly #memories: Memory[] = [];
  readonly #steps = new Map<number, Step>();

  constructor(session: Session, manifest: Manifest, capacity: number, cacheType: ElementType) {
    this.#session = session;
    this.#manifest = manifest;
    const { layers, kvHeads, headDim } = manifest.config;
    for (let layer = 0; layer < layers; layer++) {
      for (const side of ["key", "value"]) {
        const dims = [1, kvHeads, capacity, headDim];
        const bytes = dims.reduce((n, dim) => n * dim, ELEMENT[cacheType].bytes);
        const memory = cpu.allocate(bytes);
        this.#memories.push(memory);
        this.#cache.push([`${layer}.${side}`, Tensor.view(memory, 0, cacheType, dims)]);
      }
    }
  }

  /** Fills the cache, whatever its type, with small numbers: memory that was never written costs nothing to read. */
  fill(): void {
    for (const memory of this.#memories) new Uint32Array(memory.view()).fill(0x3c233c23);
  }

  run(ids: readonly number[], past: number): void {
    const step = this.#fill(ids, past);
    ortApi().call("RunWithBinding", this.#session.handle, this.#session.runOptions, step.binding);
  }

  /** The same on a worker thread, so that the event loop stays free: what any runtime must pay that does not block. */
  runAsync(ids: readonly number[], past: number): Promise<void> {
    const { binding } = this.#fill(ids, past);
    return ortApi().callAsync("RunWithBinding", this.#session.handle, this.#session.runOptions, binding);
  }

  #fill(ids: readonly number[], past: number): Step {
    const step = this.#step(ids.length);
    for (let i = 0; i < ids.length; i++) step.ids[i] = BigInt(ids[i]);
    step.seqlens[0] = past + ids.length - 1;
    step.total[0] = past + ids.length;
    return step;
  }

  #step(length: number): Step {
    let step = this.#steps.get(length);
    if (!step) {
      const api = ortApi();
      const binding = api.create("CreateIoBinding", this.#session.handle);
      const allocate = (type: ElementType, dims: number[]) => {
        const memory = cpu.allocate(dims.reduce((n, dim) => n * dim, ELEMENT[type].bytes));
        return { memory, tensor: Tensor.view(memory, 0, type, dims) };
      };
      const ids = allocate("int64", [1, length]);
      const seqlens = allocate("int32", [1]);
      const total = allocate("int32", []);
      api.call("BindInput", binding, "input_ids", ids.tensor.handle);
      api.call("BindInput", binding, "seqlens_k", seqlens.tensor.handle);
      api.call("BindInput", binding, "total_sequence_length", total.tensor.handle);
      for (const [name, tensor] of this.#cache) {
        api.call("BindInput", binding, `past.${name}`, tensor.handle);
        api.call("BindOutput", binding, `present.${name}`, tensor.handle);
      }
      for (const { name, width } of this.#manifest.outputs) {
        const { tensor } = allocate("float32", [1, length, width]);
        api.call("BindOutput", binding, name, tensor.handle);
      }
      step = {
        binding,
        ids: new BigInt64Array(ids.memory.view()),
        seqlens: new Int32Array(seqlens.memory.view()),
        total: new Int32Array(total.memory.view()),
      };
      this.#steps.set(length, step);
    }
    return step;
  }
}

interface Step {
  binding: Handle;
  ids: BigInt64Array;
  seqlens: Int32Array;
  total: Int32Array;
}
