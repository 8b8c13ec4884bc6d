/** A call of the provider, made within a gate and awaited outside. */
export class Call<R> {
  readonly #result: Promise<R>;
  #resolve!: (result: R) => void;
  #reject!: (error: unknown) => void;

  constructor() {
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The gate has the same error.
    this.#result.catch(() => {});
  }

  async run(make: () => PromiseLike<R>): Promise<R> {
    try {
      const result = await make();
      this.#resolve(result);
      return result;
    } catch (error) {
      this.#reject(error);
      throw error;
    }
  }

  /** The provider's result; null where the gate was over before there was one. */
  resultUnless(done: Promise<unknown>): Promise<R | null> {
    return Promise.race([this.#result, done.then(() => null)]);
  }
}
