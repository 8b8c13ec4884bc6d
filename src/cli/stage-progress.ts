import { ProgressBars } from "./progress-bars.js";
import type { Terminal } from "./terminal.js";

const STAGES: Record<string, { label: string; unit: string }> = {
  fetch: { label: "Fetching", unit: "bytes" },
  hash: { label: "Hashing", unit: "bytes" },
  write: { label: "Exporting", unit: "bytes" },
  warm: { label: "Warming up", unit: "runs" },
  calibrate: { label: "Calibrating", unit: "tokens" },
  check: { label: "Computing what it has to say", unit: "layers" },
  reference: { label: "Exporting fp32 to compare with", unit: "bytes" },
  verify: { label: "Comparing", unit: "conversations" },
};

/** One bar after another for the stages of fetching and exporting a checkpoint; while fetching, one for each file. */
export class StageProgress {
  readonly #bars: ProgressBars;

  constructor(terminal: Terminal) {
    this.#bars = new ProgressBars(terminal);
  }

  update(stage: string, done: number, total: number): void {
    const { label, unit } = STAGES[stage];
    this.#bars.update(label, unit, done, total);
  }

  stop(): void {
    this.#bars.stop();
  }
}
