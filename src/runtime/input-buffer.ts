import type { Device } from "./devices/device.js";
import type { Memory } from "./memory.js";

/** What the host writes and the kernels read: one block on the CPU; on a GPU one on either side, and a copy between. */
export class InputBuffer {
  /** The kernels' side, to be bound. */
  readonly memory: Memory;
  readonly #written: Memory;
  readonly #device: Device;

  /** @param device of the session that reads. @throws {DeviceError} OUT_OF_MEMORY */
  constructor(bytes: number, device: Device) {
    this.#device = device;
    this.memory = device.allocate(bytes);
    this.#written = device.upload ? device.shared(bytes) : this.memory;
  }

  /** The host's side. On a GPU, do not write between `publish` and the end of what reads it. */
  view(): ArrayBuffer {
    return this.#written.view();
  }

  /** Lets what is queued next see what was written: all of it, or the first `bytes`. */
  publish(bytes = this.memory.bytes): void {
    this.#device.upload?.(this.memory, this.#written, bytes);
  }

  free(): void {
    if (this.#written !== this.memory) this.#written.free();
    this.memory.free();
  }
}
