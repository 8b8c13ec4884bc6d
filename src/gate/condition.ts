/** Wakes whoever waits until something has changed. */
export class Condition {
  #waiting: (() => void)[] = [];

  /** Resolves once the condition holds; it is looked at again at each ring. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  notify(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
