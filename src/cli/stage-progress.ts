import type { Progress, Terminal } from "./terminal.js";

const STAGES: Record<string, { label: string; unit: string }> = {
  fetch: { label: "Fetching", unit: "bytes" },
  hash: { label: "Hashing", unit: "bytes" },
  write: { label: "Exporting", unit: "bytes" },
  calibrate: { label: "Calibrating", unit: "tokens" },
  reference: { label: "Exporting fp32 to compare with", unit: "bytes" },
  verify: { label: "Comparing", unit: "conversations" },
};

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
      this.#bar = this.#terminal.progress(STAGES[stage].label, total, STAGES[stage].unit);
    }
    this.#bar?.update(done);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
