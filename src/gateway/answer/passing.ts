import type { Fields, Shape } from "./allow-list.js";

/** What of a value passes by a shape, for people: in words, or by its parts. */
export type Passing =
  | string
  | { fields: Fields }
  | { of: Shape }
  | { types: Readonly<Record<string, Fields>>; others: Fields | null }
  | { either: readonly Shape[] };

const PASSING = new WeakMap<Shape, Passing>();

/** A shape that says what passes by it: docs/fields.md is written out of that. */
export function passing(what: Passing, shape: Shape): Shape {
  PASSING.set(shape, what);
  return shape;
}

export function passingOf(shape: Shape): Passing | undefined {
  return PASSING.get(shape);
}
