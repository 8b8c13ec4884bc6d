import { type Handle, type OrtApi, ortApi } from "./api.js";
import { CallThread } from "./call-thread.js";
import { cpu } from "./devices/cpu.js";
import type { Device } from "./devices/device.js";
import { deviceName } from "./devices/device-id.js";
import { setEnvironment } from "./environment.js";

export interface SessionOptions {
  /** Threads of the intra-op pool; the thread that calls run is one of them. For the CPU. */
  threads: number;
  /** Default: the CPU. The session takes it over: it is released with it, also where loading fails. */
  device?: Device;
  /** Whether GroupQueryAttention may use its tiled CPU kernel. Default true. */
  flashAttention?: boolean;
  /**
   * Whether products of bytes take the u8 × u8 kernels, exact on x64 processors of any age. Where u8 × s8 is exact too
   * (VNNI, AMX) those kernels are several times faster. Default false.
   */
  widenBytes?: boolean;
  /**
   * Whether constants are laid out once for the kernels that read them, in memory of the session's own. Otherwise they stay
   * mapped as they lie in their file, and kernels that want them otherwise take longer. For the CPU. Default true.
   */
  prepack?: boolean;
}

type Create = (api: OrtApi, settings: Handle) => Promise<Handle>;

/** ONNX Runtime reads it from the environment alone, while it makes the kernels of a session. */
const NO_FLASH_ATTENTION = "ORT_GQA_DISABLE_FLASH_ATTENTION";

/** Sessions are made one after the other: what the environment says is meant for one of them. */
let making: Promise<unknown> = Promise.resolve();

/** A loaded model. */
export class Session {
  readonly handle: Handle;
  readonly device: Device;
  readonly runOptions: Handle;
  /** Run options with which a run returns once its kernels are queued. */
  readonly enqueueOptions: Handle;
  /** Run options of runs that can be stopped. */
  readonly #stoppable: Handle;
  /** Where runs keep to one thread; null where any of libuv's does. */
  readonly #thread: CallThread | null;

  private constructor(handle: Handle, device: Device, thread: CallThread | null) {
    const api = ortApi();
    this.handle = handle;
    this.device = device;
    this.#thread = thread;
    this.runOptions = api.create("CreateRunOptions");
    this.enqueueOptions = api.create("CreateRunOptions");
    this.#stoppable = api.create("CreateRunOptions");
    api.call("AddRunConfigEntry", this.enqueueOptions, "disable_synchronize_execution_providers", "1");
  }

  /**
   * Loads an ONNX file on a worker thread.
   *
   * @throws {DeviceError} ORT_ERROR; CUDA_UNAVAILABLE; NODE_ON_CPU where a GPU lacks a kernel for one of the nodes
   */
  static load(path: string, options: SessionOptions): Promise<Session> {
    return Session.#create(options, (api, settings) =>
      api.createAsync("CreateSession", api.env, path, settings),
    );
  }

  /** Loads an ONNX model from memory. @throws {DeviceError} as `load` */
  static loadBytes(model: Uint8Array, options: SessionOptions): Promise<Session> {
    return Session.#create(options, async (api, settings) =>
      api.create("CreateSessionFromArray", api.env, model, model.byteLength, settings),
    );
  }

  static #create(options: SessionOptions, create: Create): Promise<Session> {
    const session = making.then(() => Session.#make(options, create));
    making = session.catch(() => {});
    return session;
  }

  static async #make(options: SessionOptions, create: Create): Promise<Session> {
    const { device = cpu, threads, widenBytes = false, prepack = true, flashAttention = true } = options;
    const inherited = process.env[NO_FLASH_ATTENTION];
    let settings: Handle | undefined;
    let thread: CallThread | null = null;
    try {
      const api = ortApi();
      settings = api.create("CreateSessionOptions");
      await device.configure(settings, { threads, widenBytes, prepack });
      if (device.prepareThread) {
        thread = new CallThread(api.libraryPath, deviceName(device.id));
        await device.prepareThread(thread);
      }
      if (!flashAttention) setEnvironment(NO_FLASH_ATTENTION, "1");
      return new Session(await create(api, settings), device, thread);
    } catch (error) {
      thread?.close();
      device.release();
      throw device.explain(error);
    } finally {
      if (!flashAttention) setEnvironment(NO_FLASH_ATTENTION, inherited);
      if (settings !== undefined) ortApi().release("ReleaseSessionOptions", settings);
    }
  }

  /** Runs what is bound. @throws {DeviceError} ORT_ERROR, CALL_THREAD_LOST */
  run(binding: Handle, options: Handle): Promise<void> {
    const api = ortApi();
    if (!this.#thread) return api.callAsync("RunWithBinding", this.handle, options, binding);
    return api.callOn(this.#thread, "RunWithBinding", this.handle, options, binding);
  }

  /** Run options for a run that `stop` is to stop. */
  stoppableOptions(): Handle {
    ortApi().call("RunOptionsUnsetTerminate", this.#stoppable);
    return this.#stoppable;
  }

  /** Makes a run with such options fail before its next node, which takes no longer than the one under way. */
  stop(): void {
    ortApi().call("RunOptionsSetTerminate", this.#stoppable);
  }

  release(): void {
    const api = ortApi();
    api.release("ReleaseRunOptions", this.runOptions);
    api.release("ReleaseRunOptions", this.enqueueOptions);
    api.release("ReleaseRunOptions", this.#stoppable);
    api.release("ReleaseSession", this.handle);
    this.#thread?.close();
    this.device.release();
  }
}
