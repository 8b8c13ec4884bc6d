/** Knows whether somebody is at work, and tells when nobody was for long. */
export class IdleTimer {
  #busy = 0;
  #usedAt = performance.now();
  readonly #timer: NodeJS.Timeout | undefined;

  /**
   * @param ms after which idleness counts; none: it never does
   * @param onIdle called then
   */
  constructor(ms: number | undefined, onIdle: () => void) {
    if (!ms) return;
    const look = () => (this.#busy > 0 ? this.#timer?.refresh() : onIdle());
    this.#timer = setTimeout(look, ms).unref();
  }

  /** When there was last something to do: milliseconds of `performance.now()`. */
  get usedAt(): number {
    return this.#busy > 0 ? performance.now() : this.#usedAt;
  }

  /** Somebody is at work until this is settled. */
  during(work: Promise<unknown>): void {
    this.#busy++;
    const end = () => {
      this.#busy--;
      this.#usedAt = performance.now();
      this.#timer?.refresh();
    };
    work.then(end, end);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
