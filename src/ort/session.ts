import { DeviceError } from "../errors.js";
import { type Handle, type OrtApi, ortApi } from "./api.js";
import { addCudaProvider } from "./cuda/provider.js";
import { CudaStream } from "./cuda/stream.js";
import { setEnvironment } from "./environment.js";
import { CPU, type Place } from "./place.js";

export interface SessionOptions {
  /** Threads of the intra-op pool; the thread that calls run is one of them. */
  threads: number;
  /** Default: the CPU. */
  place?: Place;
  /** Whether GroupQueryAttention may use its tiled CPU kernel. Default true. */
  flashAttention?: boolean;
  /**
   * Whether products of bytes take the u8 × u8 kernels, exact on x64 processors of any age. Where u8 × s8 is exact too
   * (VNNI, AMX) those kernels are several times faster. Default false.
   */
  widenBytes?: boolean;
}

type Create = (api: OrtApi, settings: Handle) => Promise<Handle>;

/** ONNX Runtime reads it from the environment alone, while it makes the kernels of a session. */
const NO_FLASH_ATTENTION = "ORT_GQA_DISABLE_FLASH_ATTENTION";

/**
 * How long a thread of the pool looks out for its next piece of work before it sleeps, in microseconds: enough for the
 * gaps within a run. By default it is milliseconds, which kept a core busy between two tokens and, where other work held
 * the other core, during them.
 */
const SPIN_US = "20";

/** Sessions are made one after the other: what the environment says is meant for one of them. */
let making: Promise<unknown> = Promise.resolve();

/** A loaded model. */
export class Session {
  readonly handle: Handle;
  readonly place: Place;
  /** Where a GPU's kernels queue, and what is to come before or after them; null on the CPU. */
  readonly stream: CudaStream | null;
  readonly runOptions: Handle;
  /** Run options with which a run returns once its kernels are queued. */
  readonly enqueueOptions: Handle;

  private constructor(handle: Handle, place: Place, stream: CudaStream | null) {
    const api = ortApi();
    this.handle = handle;
    this.place = place;
    this.stream = stream;
    this.runOptions = api.create("CreateRunOptions");
    this.enqueueOptions = api.create("CreateRunOptions");
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
    const api = ortApi();
    const { place = CPU } = options;
    const stream = place.kind === "cuda" ? await CudaStream.create(place) : null;
    const settings = api.create("CreateSessionOptions");
    const inherited = process.env[NO_FLASH_ATTENTION];
    try {
      if (stream) await addCudaProvider(settings, stream);
      api.call("SetIntraOpNumThreads", settings, options.threads);
      api.call("AddSessionConfigEntry", settings, "session.intra_op.spin_duration_us", SPIN_US);
      if (options.widenBytes) api.call("AddSessionConfigEntry", settings, "session.x64quantprecision", "1");
      if (options.flashAttention === false) setEnvironment(NO_FLASH_ATTENTION, "1");
      return new Session(await create(api, settings), place, stream);
    } catch (error) {
      stream?.release();
      throw explain(error);
    } finally {
      if (options.flashAttention === false) setEnvironment(NO_FLASH_ATTENTION, inherited);
      api.release("ReleaseSessionOptions", settings);
    }
  }

  release(): void {
    const api = ortApi();
    api.release("ReleaseRunOptions", this.runOptions);
    api.release("ReleaseRunOptions", this.enqueueOptions);
    api.release("ReleaseSession", this.handle);
    this.stream?.release();
  }
}

function explain(error: unknown): unknown {
  if (!(error instanceof DeviceError) || !error.message.includes("default CPU EP")) return error;
  return new DeviceError(
    "NODE_ON_CPU",
    "The GPU lacks a kernel for a part of this model, which would run on the CPU and be slow: " +
      "export the checkpoint again with --device cuda, or run on the CPU.",
    { cause: error },
  );
}
