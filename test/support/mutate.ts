/** Numbers from 0 to below 1, the same for a seed on every machine (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to below `count`. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }
}

/** Bytes with a few of them flipped, or cut, filled up, doubled. */
export function mutateBytes(bytes: Buffer, dice: Dice): Buffer {
  const at = dice.below(bytes.length + 1);
  const until = at + dice.below(Math.min(1000, bytes.length - at) + 1);
  switch (dice.below(5)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(until)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, until), bytes.subarray(at)]);
    case 3:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.alloc(dice.below(100), dice.below(256)),
        bytes.subarray(at),
      ]);
    default: {
      const copy = Buffer.from(bytes);
      for (let n = dice.below(4); n >= 0 && copy.length > 0; n--)
        copy[dice.below(copy.length)] ^= 1 << dice.below(8);
      return copy;
    }
  }
}

const deep = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));

/** Values that somebody forgets to expect. */
const VALUES: (() => unknown)[] = [
  ...[null, true, false, 0, 1, -1, 2, 7, 64, 1000, 0.5, 1e-300, 1e308, 2 ** 24, 2 ** 31, 2 ** 53].map(
    (value) => () => value,
  ),
  ...["", "x", "Safe", "__proto__", "constructor", "\0", "\ud800", "../x", "<|im_end|>", "1", "null"].map(
    (value) => () => value,
  ),
  () => "x".repeat(1 << 20),
  () => [],
  () => ({}),
  () => [null],
  () => ({ a: { b: 1 } }),
  () => deep(100),
  () => deep(5000),
  () => Array.from({ length: 20_000 }, (_, i) => i),
];

/** JSON with one value within it replaced, taken out, doubled or added. `extra`: further values to put in. */
export function mutateJson(json: unknown, dice: Dice, extra: readonly unknown[] = []): unknown {
  const root = { root: structuredClone(json) };
  let parent: Record<string, unknown> = root;
  let key = "root";
  while (dice.next() < 0.8) {
    const child = parent[key];
    if (typeof child !== "object" || child === null) break;
    const keys = Object.keys(child);
    if (keys.length === 0) break;
    parent = child as Record<string, unknown>;
    key = dice.of(keys);
  }
  const value = () => (extra.length > 0 && dice.next() < 0.3 ? dice.of(extra) : dice.of(VALUES)());
  switch (dice.below(6)) {
    case 0:
      delete parent[key];
      break;
    case 1:
      parent[dice.of(Object.keys(parent))] = structuredClone(parent[key]);
      break;
    case 2:
      if (Array.isArray(parent)) parent.splice(dice.below(parent.length + 1), dice.below(2), value());
      else parent[dice.of(["extra", "__proto__x", "type", "id", "rope_scaling"])] = value();
      break;
    case 3:
      if (typeof parent[key] === "number")
        parent[key] = (parent[key] as number) * dice.of([-1, 2, 0.5, 1000, 2 ** 20]);
      else parent[key] = value();
      break;
    default:
      parent[key] = value();
  }
  return root.root;
}
