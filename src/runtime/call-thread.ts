import { Worker } from "node:worker_threads";
import { DeviceError } from "../errors.js";
import { KOFFI_MODULE, STACK_BYTES } from "./ffi.js";
import type { NativeFunction } from "./native-function.js";

/**
 * What the thread does, as text: a file of its own would have to be found from sources, from `dist` and from a bundle.
 * koffi wants a library loaded in each thread before it calls an address there, and unloads one that nobody holds.
 */
const PROGRAM = `
const { parentPort, workerData } = require("node:worker_threads");
const koffi = require(workerData.koffi);
koffi.config({ sync_stack_size: workerData.stackBytes, async_stack_size: workerData.stackBytes });
globalThis.library = koffi.load(workerData.library);
const functions = new Map();
parentPort.on("message", ({ address, prototype, args }) => {
  if (!functions.has(address)) functions.set(address, koffi.decode(address, koffi.proto(prototype)));
  parentPort.postMessage(functions.get(address)(...args));
});
`;

/** What a thread is told and tells: pointers are numbers to it. */
export type CallArgument = bigint | number | string | null;

interface Call {
  resolve: (status: unknown) => void;
  reject: (error: Error) => void;
}

/**
 * One thread for native calls, in the order they were made, where libuv's pool gives each to any of its threads: for
 * libraries that do some work anew for every thread that calls them. It keeps the process alive only while a call runs.
 */
export class CallThread {
  readonly #worker: Worker;
  readonly #calls: Call[] = [];
  #lost: Error | null = null;

  /** @param library what the functions are of, or one of the libraries. @param name for tools that show threads */
  constructor(library: string, name: string) {
    this.#worker = new Worker(PROGRAM, {
      eval: true,
      name,
      execArgv: [],
      workerData: { koffi: KOFFI_MODULE, stackBytes: STACK_BYTES, library },
    });
    this.#worker.unref();
    this.#worker.on("message", (status) => this.#settle((call) => call.resolve(status)));
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", () => this.#fail());
  }

  /**
   * Rejects with what `check` throws of its status.
   *
   * @throws {DeviceError} CALL_THREAD_LOST where the thread has ended
   */
  async call<Status>(
    native: NativeFunction<Status>,
    args: readonly CallArgument[],
    check: (status: Status) => void,
  ): Promise<void> {
    if (this.#lost) throw this.#lost;
    const status = await new Promise<unknown>((resolve, reject) => {
      this.#calls.push({ resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage({ address: native.address, prototype: native.prototype, args });
    });
    check(status as Status);
  }

  /** Ends it. A call under way is not waited for, and rejects. */
  close(): void {
    void this.#worker.terminate();
  }

  #settle(end: (call: Call) => void): void {
    const call = this.#calls.shift();
    if (this.#calls.length === 0) this.#worker.unref();
    if (call) end(call);
  }

  #fail(cause?: Error): void {
    const reason = cause ? `: ${cause.message}` : "";
    this.#lost ??= new DeviceError(
      "CALL_THREAD_LOST",
      `The thread that runs the model has ended${reason}. Load the guard again.`,
      { cause },
    );
    while (this.#calls.length > 0) this.#settle(({ reject }) => reject(this.#lost as Error));
  }
}
