import { DeviceError } from "../../src/errors.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import type { Device, Recording, RecordingMode } from "../../src/runtime/devices/device.js";
import type { Memory } from "../../src/runtime/memory.js";

/** What goes wrong with a way of recording: it cannot, it plays something else, or it does so once a prompt ran. */
export type Fault = "throws" | "wrong" | "wrong after a prompt";

export const MODES: readonly RecordingMode[] = [
  { name: "first", copiesResults: false },
  { name: "second", copiesResults: false },
  { name: "copied", copiesResults: true },
];

/** Bytes of an upload that bring more than one token. */
const PROMPT_BYTES = 1000;

/** The CPU as a device that records: a recording does its work again, with the host's numbers of when it was made. */
export class RecordingCpu {
  readonly log: string[] = [];
  readonly device: Device;
  /** By the name of the way. */
  readonly faults: Record<string, Fault> = {};
  /** Whether a recording keeps the host's numbers, as a GPU's does. The CPU's kernel needs the present ones for several tokens. */
  keepsNumbers = true;
  readonly #hostNumbers: () => Int32Array;
  #prompts = 0;

  /** @param hostNumbers what kernels read on the host, which a recording keeps */
  constructor(hostNumbers: () => Int32Array) {
    this.#hostNumbers = hostNumbers;
    this.device = {
      ...cpu,
      upload: (to, from, bytes) => {
        if (bytes > PROMPT_BYTES) this.#prompts++;
        copy(to, from, bytes);
      },
      recorder: {
        modes: MODES,
        record: (work, mode) => this.#record(work, mode),
        download: copy,
        recover: async () => void this.log.push("recover"),
      },
    };
  }

  async #record(work: () => Promise<void>, { name }: RecordingMode): Promise<Recording> {
    const fault = this.faults[name];
    if (fault === "throws") throw new DeviceError("CUDA_ERROR", "no capture today");
    const numbers = this.#hostNumbers();
    const recorded = Int32Array.from(numbers);
    const before = this.#prompts;
    this.log.push("record");
    const run = async () => {
      this.log.push("run");
      if (fault === "wrong" || (fault === "wrong after a prompt" && this.#prompts > before)) return;
      const now = Int32Array.from(numbers);
      if (this.keepsNumbers) numbers.set(recorded);
      await work();
      numbers.set(now);
    };
    return { run, release: () => void this.log.push("release") };
  }
}

function copy(to: Memory, from: Memory, bytes: number): void {
  new Uint8Array(to.view()).set(new Uint8Array(from.view()).subarray(0, bytes));
}
