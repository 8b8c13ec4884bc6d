import type { Progress, Terminal } from "./terminal.js";

/** One bar after another: a new one where the label or the total is another. */
export class ProgressBars {
  readonly #terminal: Terminal;
  #key = "";
  #bar: Progress | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  update(label: string, unit: string, done: number, total: number): void {
    const key = `${label} ${total}`;
    if (key !== this.#key) {
      this.stop();
      this.#key = key;
      this.#bar = this.#terminal.progress(label, total, unit);
    }
    this.#bar?.update(done);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
