/** Lets calls begin in the order in which they came, while something that they depend on is still being prepared. */
export class CallOrder {
  #preparing = false;
  readonly #calls: (() => void)[] = [];

  get preparing(): boolean {
    return this.#preparing;
  }

  /** Begins a call's work once that of all calls before it has begun: at once, unless something is being prepared. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#preparing) return work();
    return new Promise((resolve, reject) => {
      this.#calls.push(() => void work().then(resolve, reject));
    });
  }

  /** Lets calls wait for it, however it ends. */
  waitFor(prepared: Promise<unknown>): void {
    this.#preparing = true;
    const goOn = () => this.goOn();
    prepared.then(goOn, goOn);
  }

  /** Waits no longer: calls begin that were waiting, until one has something prepared itself. */
  goOn(): void {
    this.#preparing = false;
    while (!this.#preparing && this.#calls.length > 0) this.#calls.shift()?.();
  }
}
