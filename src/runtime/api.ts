import { DeviceError, InputError } from "../errors.js";
import type { CallArgument, CallThread } from "./call-thread.js";
import { ACCELERATORS, DEVICE_KINDS } from "./devices/kinds.js";
import koffi from "./ffi.js";
import { findLibrary, loadLibrary } from "./library.js";
import { type NativeFunction, nativeFunction } from "./native-function.js";
import { disableTelemetry } from "./telemetry.js";
import { callOnWorker } from "./worker.js";

/** Address of an object that lives in ONNX Runtime: OrtSession*, OrtValue*, … */
export type Handle = bigint;

/** The newest API version whose functions are used here; every later library serves it. */
const API_VERSION = 23;

const PATH_TYPE = process.platform === "win32" ? "const char16_t*" : "const char*";

/**
 * The functions of OrtApi in use: index of the pointer in the struct, C parameters. The struct only ever grows at
 * its end, so an index holds for every later version. All of these return OrtStatus* (null on success).
 */
const STATUS_FUNCTIONS = {
  CreateEnv: [3, "int level, const char* id, _Out_ void** env"],
  DisableTelemetryEvents: [6, "void* env"],
  CreateSession: [7, `void* env, ${PATH_TYPE} path, void* options, _Out_ void** session`],
  CreateSessionFromArray: [8, "void* env, void* model, size_t bytes, void* options, _Out_ void** session"],
  CreateSessionOptions: [10, "_Out_ void** options"],
  DisableMemPattern: [17, "void* options"],
  SetIntraOpNumThreads: [24, "void* options, int threads"],
  CreateRunOptions: [39, "_Out_ void** options"],
  RunOptionsSetTerminate: [46, "void* options"],
  RunOptionsUnsetTerminate: [47, "void* options"],
  CreateTensorWithDataAsOrtValue: [
    49,
    "void* info, void* data, size_t bytes, void* shape, size_t rank, int type, _Out_ void** value",
  ],
  CreateMemoryInfo: [68, "const char* name, int allocator, int id, int kind, _Out_ void** info"],
  AllocatorAlloc: [75, "void* allocator, size_t bytes, _Out_ void** data"],
  AllocatorFree: [76, "void* allocator, void* data"],
  GetAllocatorWithDefaultOptions: [78, "_Out_ void** allocator"],
  AddSessionConfigEntry: [130, "void* options, const char* key, const char* value"],
  RunWithBinding: [133, "void* session, void* options, void* binding"],
  CreateIoBinding: [134, "void* session, _Out_ void** binding"],
  BindInput: [136, "void* binding, const char* name, void* value"],
  BindOutput: [137, "void* binding, const char* name, void* value"],
  AddRunConfigEntry: [165, "void* options, const char* key, const char* value"],
} as const satisfies FunctionTable;

/** Functions that release a handle and return nothing. */
const RELEASE_FUNCTIONS = {
  ReleaseMemoryInfo: 94,
  ReleaseSession: 95,
  ReleaseValue: 96,
  ReleaseRunOptions: 97,
  ReleaseSessionOptions: 100,
  ReleaseIoBinding: 135,
} as const;

/** Functions of OrtApi that return OrtStatus*: index of the pointer in the struct, C parameters. */
export type FunctionTable = Readonly<Record<string, readonly [number, string]>>;

type ReleaseName = keyof typeof RELEASE_FUNCTIONS;
type Out = [Handle | null];
type Bind = (index: number, prototype: string) => NativeFunction<unknown>;

/** Some of the functions of OrtApi, whose failures are thrown. */
class StatusFunctions<Name extends string> {
  readonly #call = {} as Record<Name, NativeFunction<unknown>>;
  readonly #errorMessage: NativeFunction<unknown>;
  readonly #releaseStatus: NativeFunction<unknown>;

  constructor(bind: Bind, functions: FunctionTable) {
    this.#errorMessage = bind(2, "const char* (void* status)");
    this.#releaseStatus = bind(93, "void (void* status)");
    for (const [name, [index, parameters]] of Object.entries(functions)) {
      this.#call[name as Name] = bind(index, `void* (${parameters})`);
    }
  }

  /** @throws {DeviceError} ORT_ERROR with ONNX Runtime's own message. */
  call(name: Name, ...args: unknown[]): void {
    this.#check(name, this.#call[name](...args));
  }

  /** Calls a function whose last parameter is an out pointer, and returns what was written there. */
  create(name: Name, ...args: unknown[]): Handle {
    const out: Out = [null];
    this.#check(name, this.#call[name](...args, out));
    return out[0] as Handle;
  }

  /** The same on a worker thread: the event loop goes on meanwhile. */
  callAsync(name: Name, ...args: unknown[]): Promise<void> {
    return callOnWorker(this.#call[name], args, (status) => this.#check(name, status));
  }

  /** The same on a thread of one's own. */
  callOn(thread: CallThread, name: Name, ...args: CallArgument[]): Promise<void> {
    return thread.call(this.#call[name], args, (status) => this.#check(name, status));
  }

  async createAsync(name: Name, ...args: unknown[]): Promise<Handle> {
    const out: Out = [null];
    await this.callAsync(name, ...args, out);
    return out[0] as Handle;
  }

  #check(name: Name, status: unknown): void {
    if (!status) return;
    const message = this.#errorMessage(status) as string;
    this.#releaseStatus(status);
    throw new DeviceError("ORT_ERROR", `ONNX Runtime ${name} failed: ${message}`);
  }
}

/** ONNX Runtime's C API, called in the library that comes with the package. Knows tensors, nothing of guards. */
export class OrtApi extends StatusFunctions<keyof typeof STATUS_FUNCTIONS> {
  readonly version: string;
  readonly libraryPath: string;
  readonly env: Handle;
  readonly #bind: Bind;
  readonly #release = {} as Record<ReleaseName, NativeFunction<unknown>>;

  constructor(libraryPath: string) {
    disableTelemetry();
    const { version, bind } = openApi(libraryPath);
    super(bind, STATUS_FUNCTIONS);
    this.version = version;
    this.libraryPath = libraryPath;
    this.#bind = bind;
    for (const [name, index] of Object.entries(RELEASE_FUNCTIONS)) {
      this.#release[name as ReleaseName] = bind(index, "void (void* handle)");
    }
    this.env = this.create("CreateEnv", logLevel(), "qwen3guard");
    // Windows' library hands events to the system's tracing and asks no variable.
    this.call("DisableTelemetryEvents", this.env);
  }

  /** Further functions of the API, for one kind of device. */
  functions<Table extends FunctionTable>(table: Table): StatusFunctions<keyof Table & string> {
    return new StatusFunctions(this.#bind, table);
  }

  /** A further function that releases a handle. */
  releaser(index: number): (handle: Handle) => void {
    return this.#bind(index, "void (void* handle)");
  }

  release(name: ReleaseName, handle: Handle): void {
    this.#release[name](handle);
  }
}

/**
 * How much ONNX Runtime writes to standard error, QWEN3GUARD_ORT_LOG: 0 all, 4 what is fatal. 3, errors, where it says
 * nothing: what goes wrong comes back as a status and is thrown from here.
 *
 * @throws {InputError} OPTION_INVALID
 */
function logLevel(): number {
  const level = process.env.QWEN3GUARD_ORT_LOG || "3";
  if (/^[0-4]$/.test(level)) return Number(level);
  throw new InputError(
    "OPTION_INVALID",
    `QWEN3GUARD_ORT_LOG is "${level}"; it must be a number from 0 to 4.`,
  );
}

/** @throws {DeviceError} LIBRARY_NOT_LOADED, ORT_TOO_OLD */
function openApi(libraryPath: string): { version: string; bind: Bind } {
  const base = loadLibrary(libraryPath).func("void* OrtGetApiBase()")() as Handle;
  const [getApi, getVersion] = koffi.decode(base, koffi.array("void*", 2)) as [Handle, Handle];
  const version = koffi.decode(getVersion, koffi.proto("const char* ()"))() as string;
  const table = koffi.decode(getApi, koffi.proto("void* (uint32_t version)"))(API_VERSION) as Handle | null;
  if (!table) {
    throw new DeviceError(
      "ORT_TOO_OLD",
      `ONNX Runtime ${version} at ${libraryPath} lacks C API ${API_VERSION}. Install qwen3guard-stream again.`,
    );
  }
  const bind = (index: number, prototype: string) => {
    const pointer = koffi.decode(table + BigInt(index * koffi.sizeof("void*")), "void*") as Handle;
    return nativeFunction(pointer, prototype);
  };
  return { version, bind };
}

let shared: OrtApi | undefined;

/** The process-wide API: of the library that comes with the package, or of the one that a kind of device brings instead. */
export function ortApi(): OrtApi {
  shared ??= new OrtApi(
    ACCELERATORS.map((name) => DEVICE_KINDS[name].runtimeLibrary()).find((path) => path !== null) ??
      findLibrary().path,
  );
  return shared;
}
