import { type Handle, ortApi } from "./api.js";

export interface SessionOptions {
  /** Threads of the intra-op pool; the thread that calls run is one of them. */
  threads: number;
}

/** A loaded model. */
export class Session {
  readonly handle: Handle;
  readonly runOptions: Handle;

  private constructor(handle: Handle) {
    this.handle = handle;
    this.runOptions = ortApi().create("CreateRunOptions");
  }

  /** Loads an ONNX file on a worker thread. @throws {DeviceError} ORT_ERROR */
  static async load(path: string, options: SessionOptions): Promise<Session> {
    const api = ortApi();
    const settings = api.create("CreateSessionOptions");
    try {
      api.call("SetIntraOpNumThreads", settings, options.threads);
      // Where the processor has no VNNI, u8 × s8 products saturate in 16 bits: take the u8 × u8 kernels there.
      api.call("AddSessionConfigEntry", settings, "session.x64quantprecision", "1");
      return new Session(await api.createAsync("CreateSession", api.env, path, settings));
    } finally {
      api.release("ReleaseSessionOptions", settings);
    }
  }

  release(): void {
    const api = ortApi();
    api.release("ReleaseRunOptions", this.runOptions);
    api.release("ReleaseSession", this.handle);
  }
}
