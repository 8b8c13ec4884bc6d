import { toValue, UNDEFINED, type Value } from "./values.js";

/** What a loop's body knows as `loop`, by name: of the items that it goes through, and the place of its own. */
const MEMBERS: Record<string, (items: readonly Value[], i: number) => Value | undefined> = {
  index: (_, i) => toValue(i + 1),
  index0: (_, i) => toValue(i),
  revindex: ({ length }, i) => toValue(length - i),
  revindex0: ({ length }, i) => toValue(length - i - 1),
  first: (_, i) => toValue(i === 0),
  last: ({ length }, i) => toValue(i === length - 1),
  length: ({ length }) => toValue(length),
  previtem: (items, i) => items[i - 1],
  nextitem: (items, i) => items[i + 1],
};

/** Of them, those that a template may look at. @param named by it; null: it may look at any */
export function loopMembers(named: ReadonlySet<string> | null): readonly string[] {
  const all = Object.keys(MEMBERS);
  const known = named !== null && [...named].every((name) => Object.hasOwn(MEMBERS, name));
  return known ? all.filter((name) => named.has(name)) : all;
}

/** `loop` with these members. */
export function loopVariable(members: readonly string[], items: readonly Value[], i: number): Value {
  const loop = toValue({});
  for (const name of members)
    (loop.value as Map<string, Value>).set(name, MEMBERS[name](items, i) ?? UNDEFINED);
  return loop;
}
