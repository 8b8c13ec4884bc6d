/** Names that are remembered, and characters of each. */
const MOST_LEFT = 256;
const LONGEST_NAME = 64;

/** Fields that pass unread although no table knows them. */
export class OpenFields {
  readonly #names: ReadonlySet<string>;
  readonly #all: boolean;
  /** Names of those that did. */
  readonly passed = new Set<string>();
  /** Names of those that were left out though they held something, and types of what was; up to so many. */
  readonly left = new Set<string>();

  /** @param all whatever its name */
  constructor(names: Iterable<string> = [], all = false) {
    this.#names = new Set(names);
    this.#all = all;
  }

  /** Whether it was opened by its name. */
  named(name: string): boolean {
    return this.#names.has(name);
  }

  /** Whether a field passes; remembered if so, and if not. */
  take(name: string, value: unknown): boolean {
    const passes = this.#all || this.named(name);
    if (passes) this.passed.add(name);
    else if (holdsAnything(value)) this.leave(name);
    return passes;
  }

  /** Remembers that something of a name or type was left out. */
  leave(name: string): void {
    if (this.left.size < MOST_LEFT) this.left.add(name.slice(0, LONGEST_NAME));
  }
}

function holdsAnything(value: unknown): boolean {
  if (typeof value === "string") return value !== "";
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}
