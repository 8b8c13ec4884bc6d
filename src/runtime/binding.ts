import { type Handle, ortApi } from "./api.js";
import type { Session } from "./session.js";
import type { Tensor } from "./tensor.js";

/** Named inputs and outputs bound to fixed memory: a run reads and writes in place and copies nothing. */
export class Binding {
  readonly #session: Session;
  readonly #handle: Handle;

  constructor(session: Session) {
    this.#session = session;
    this.#handle = ortApi().create("CreateIoBinding", session.handle);
  }

  input(name: string, tensor: Tensor): void {
    ortApi().call("BindInput", this.#handle, name, tensor.handle);
  }

  output(name: string, tensor: Tensor): void {
    ortApi().call("BindOutput", this.#handle, name, tensor.handle);
  }

  /**
   * Runs the model, on a worker thread where it can; resolves when the outputs are there.
   *
   * @param stoppable whether `Session.stop` stops it, where it runs on a worker thread
   * @throws {DeviceError} ORT_ERROR
   */
  run(stoppable = false): Promise<void> {
    const { device } = this.#session;
    if (device.start) return device.start(() => this.enqueue());
    const options = stoppable ? this.#session.stoppableOptions() : this.#session.runOptions;
    return ortApi().callAsync("RunWithBinding", this.#session.handle, options, this.#handle);
  }

  /** Queues the model's kernels on its stream, on this very thread, and does not wait: to be captured. */
  enqueue(): void {
    ortApi().call("RunWithBinding", this.#session.handle, this.#session.enqueueOptions, this.#handle);
  }

  release(): void {
    ortApi().release("ReleaseIoBinding", this.#handle);
  }
}
