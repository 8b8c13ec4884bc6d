import { type Handle, type OrtApi, ortApi } from "./api.js";

export interface SessionOptions {
  /** Threads of the intra-op pool; the thread that calls run is one of them. */
  threads: number;
  /** Whether GroupQueryAttention may use its tiled CPU kernel. Default true. */
  flashAttention?: boolean;
  /**
   * Whether products of bytes take the u8 × u8 kernels, exact on x64 processors of any age. Where u8 × s8 is exact too
   * (VNNI, AMX) those kernels are several times faster. Default false.
   */
  widenBytes?: boolean;
}

/** ONNX Runtime reads it from the environment alone, while it makes the kernels of a session. */
const NO_FLASH_ATTENTION = "ORT_GQA_DISABLE_FLASH_ATTENTION";

/** A loaded model. */
export class Session {
  readonly handle: Handle;
  readonly runOptions: Handle;

  private constructor(handle: Handle) {
    this.handle = handle;
    this.runOptions = ortApi().create("CreateRunOptions");
  }

  /** Loads an ONNX file on a worker thread. @throws {DeviceError} ORT_ERROR */
  static load(path: string, options: SessionOptions): Promise<Session> {
    return Session.#create(options, (api, settings) =>
      api.createAsync("CreateSession", api.env, path, settings),
    );
  }

  /** Loads an ONNX model from memory. @throws {DeviceError} ORT_ERROR */
  static loadBytes(model: Uint8Array, options: SessionOptions): Promise<Session> {
    return Session.#create(options, async (api, settings) =>
      api.create("CreateSessionFromArray", api.env, model, model.byteLength, settings),
    );
  }

  static async #create(
    options: SessionOptions,
    create: (api: OrtApi, settings: Handle) => Promise<Handle>,
  ): Promise<Session> {
    const api = ortApi();
    const settings = api.create("CreateSessionOptions");
    const inherited = process.env[NO_FLASH_ATTENTION];
    try {
      api.call("SetIntraOpNumThreads", settings, options.threads);
      if (options.widenBytes) api.call("AddSessionConfigEntry", settings, "session.x64quantprecision", "1");
      if (options.flashAttention === false) process.env[NO_FLASH_ATTENTION] = "1";
      return new Session(await create(api, settings));
    } finally {
      if (inherited === undefined) delete process.env[NO_FLASH_ATTENTION];
      else process.env[NO_FLASH_ATTENTION] = inherited;
      api.release("ReleaseSessionOptions", settings);
    }
  }

  release(): void {
    const api = ortApi();
    api.release("ReleaseRunOptions", this.runOptions);
    api.release("ReleaseSession", this.handle);
  }
}
