import type { Progress, Terminal } from "./terminal.js";

const LABELS: Record<string, string> = { fetch: "Fetching", hash: "Hashing", write: "Exporting" };

/** One bar after another for the stages of fetching and exporting a checkpoint. */
export class StageProgress {
  readonly #terminal: Terminal;
  #stage = "";
  #bar: Progress | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  update(stage: string, done: number, total: number): void {
    // The total changes from file to file while fetching: each gets its own bar.
    const key = `${stage} ${total}`;
    if (key !== this.#stage) {
      this.stop();
      this.#stage = key;
      this.#bar = this.#terminal.progress(LABELS[stage], total, "bytes");
    }
    this.#bar?.update(done);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
