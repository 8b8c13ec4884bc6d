/** What is under way beside each other, and what of it failed first. */
export class InFlight {
  readonly #tasks = new Set<Promise<void>>();
  readonly #onFailure: () => void;
  #failure: { error: unknown } | null = null;

  /** @param onFailure called when something has failed, so that no more comes */
  constructor(onFailure: () => void = () => {}) {
    this.#onFailure = onFailure;
  }

  get hasFailed(): boolean {
    return this.#failure !== null;
  }

  add(task: Promise<void>): void {
    const done: Promise<void> = task
      .catch((error) => {
        this.#failure ??= { error };
        this.#onFailure();
      })
      .finally(() => this.#tasks.delete(done));
    this.#tasks.add(done);
  }

  /** Waits while there are so many. @throws what failed first */
  async below(most: number): Promise<void> {
    while (this.#tasks.size >= most) await Promise.race(this.#tasks);
    this.check();
  }

  /** Waits for all. @throws what failed first */
  async all(): Promise<void> {
    await Promise.all(this.#tasks);
    this.check();
  }

  /** @throws what failed first */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
