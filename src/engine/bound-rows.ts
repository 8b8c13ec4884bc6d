import type { Binding } from "../runtime/binding.js";
import type { Tensor } from "../runtime/tensor.js";

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

export function bindShape(bound: BoundRows, shape: StepShape): Binding {
  if (bound.boundShape !== shape) {
    for (const [name, tensor] of shape.inputs) bound.binding.input(name, tensor);
    for (const [name, tensor] of shape.outputs) bound.binding.output(name, tensor);
    bound.boundShape = shape;
  }
  return bound.binding;
}

export function releaseBound({ binding, cache }: BoundRows): void {
  binding.release();
  for (const tensor of cache) tensor.release();
}

export function releaseShape({ inputs, outputs }: StepShape): void {
  for (const [, tensor] of [...inputs, ...outputs]) tensor.release();
}
