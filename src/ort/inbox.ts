import type { CudaStream } from "./cuda/stream.js";
import { Memory } from "./memory.js";

/** What the host writes and the kernels read: one block on the CPU; on a GPU one on either side, and a copy between. */
export class Inbox {
  /** The kernels' side, to be bound. */
  readonly memory: Memory;
  readonly #written: Memory;
  readonly #stream: CudaStream | null;

  /** @param stream of the session that reads, null on the CPU. @throws {DeviceError} OUT_OF_MEMORY */
  constructor(bytes: number, stream: CudaStream | null) {
    this.#stream = stream;
    this.memory = Memory.allocate(bytes, stream?.place);
    this.#written = stream ? Memory.shared(bytes, stream.place) : this.memory;
  }

  /** The host's side. On a GPU, do not write between `publish` and the end of what reads it. */
  view(): ArrayBuffer {
    return this.#written.view();
  }

  /** Lets what is queued next see what was written: all of it, or the first `bytes`. */
  publish(bytes = this.memory.bytes): void {
    this.#stream?.upload(this.memory.address, this.#written.address, bytes);
  }

  free(): void {
    if (this.#stream) this.#written.free();
    this.memory.free();
  }
}
