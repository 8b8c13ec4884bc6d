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
   * Runs the model, on another thread than this; resolves when the outputs are there.
   *
   * @param stoppable whether `Session.stop` stops it
   * @throws {DeviceError} ORT_ERROR, CALL_THREAD_LOST
   */
  run(stoppable = false): Promise<void> {
    const options = stoppable ? this.#session.stoppableOptions() : this.#session.runOptions;
    return this.#session.run(this.#handle, options);
  }

  /** Queues the model's kernels on its stream and does not wait for them: to be captured. @throws {DeviceError} as `run` */
  enqueue(): Promise<void> {
    return this.#session.run(this.#handle, this.#session.enqueueOptions);
  }

  release(): void {
    ortApi().release("ReleaseIoBinding", this.#handle);
  }
}
