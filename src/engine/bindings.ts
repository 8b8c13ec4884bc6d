import { LRUCache } from "lru-cache";
import { Binding } from "../runtime/binding.js";
import type { Memory } from "../runtime/memory.js";
import type { Session } from "../runtime/session.js";
import type { Tensor } from "../runtime/tensor.js";
import type { KvCache } from "./cache.js";
import type { LogitsLayout } from "./logits-block.js";
import type { StepInputs } from "./step-inputs.js";

/** They are cheap to make (a fraction of a millisecond) but not free to keep: two OrtValues a layer each. */
const MAX_BINDINGS = 64;
const MAX_SHAPES = 256;

/** Rows of the cache, bound as past and present of the steps that they take together. */
export interface BoundRows {
  binding: Binding;
  cache: Tensor[];
  boundShape?: StepShape;
}

/** The inputs and outputs of a step that depend on its shape. */
export interface StepShape {
  inputs: [string, Tensor][];
  outputs: [string, Tensor][];
}

/** Where steps leave their logits, and how. */
export interface Results {
  layout: LogitsLayout;
  memory: Memory;
}

/** Bindings and tensors, made once for each range of rows and each shape of a step, and kept. */
export class Bindings {
  readonly #session: Session;
  readonly #cache: KvCache;
  readonly #inputs: StepInputs;
  readonly #results: Results;
  readonly #rows = new LRUCache<string, BoundRows>({ max: MAX_BINDINGS, dispose: releaseRows });
  readonly #shapes = new LRUCache<string, StepShape>({
    max: MAX_SHAPES,
    dispose: (old) => {
      for (const rows of this.#rows.values()) if (rows.boundShape === old) rows.boundShape = undefined;
      releaseShape(old);
    },
  });

  constructor(session: Session, cache: KvCache, inputs: StepInputs, results: Results) {
    this.#session = session;
    this.#cache = cache;
    this.#inputs = inputs;
    this.#results = results;
  }

  /** For a step of `length` tokens on each of some rows, which asks for the logits of the last `asked`. */
  get(firstRow: number, rows: number, length: number, asked: number): Binding {
    const bound = found(this.#rows, `${firstRow}+${rows}`, () => this.rows(firstRow, rows));
    const shape = found(this.#shapes, `${rows}x${length}x${asked}`, () => this.shape(rows, length, asked));
    return bindShape(bound, shape);
  }

  /** Bound for who asks alone, and released by him. */
  rows(first: number, count: number): BoundRows {
    const binding = new Binding(this.#session);
    const cache = this.#cache.view(first, count);
    for (let i = 0; i < cache.length; i++) {
      const name = `${Math.floor(i / 2)}.${i % 2 === 0 ? "key" : "value"}`;
      // The same memory as past and as present: new keys and values are written in place.
      binding.input(`past.${name}`, cache[i]);
      binding.output(`present.${name}`, cache[i]);
    }
    this.#inputs.bindScalars(binding);
    return { binding, cache };
  }

  /** Made for who asks alone, and released by him. */
  shape(rows: number, length: number, asked: number, { layout, memory } = this.#results): StepShape {
    return {
      inputs: this.#inputs.tensors(rows, length),
      outputs: layout.tensors(memory, rows, length, asked),
    };
  }

  release(): void {
    this.#rows.clear();
    this.#shapes.clear();
  }
}

function found<T extends object>(kept: LRUCache<string, T>, key: string, make: () => T): T {
  const known = kept.get(key);
  if (known) return known;
  const made = make();
  kept.set(key, made);
  return made;
}

export function bindShape(bound: BoundRows, shape: StepShape): Binding {
  if (bound.boundShape !== shape) {
    for (const [name, tensor] of shape.inputs) bound.binding.input(name, tensor);
    for (const [name, tensor] of shape.outputs) bound.binding.output(name, tensor);
    bound.boundShape = shape;
  }
  return bound.binding;
}

export function releaseRows({ binding, cache }: BoundRows): void {
  binding.release();
  for (const tensor of cache) tensor.release();
}

export function releaseShape({ inputs, outputs }: StepShape): void {
  for (const [, tensor] of [...inputs, ...outputs]) tensor.release();
}
