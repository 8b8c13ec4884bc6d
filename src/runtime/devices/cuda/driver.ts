import type { KoffiFunc, LibraryHandle } from "koffi";
import koffi from "../../ffi.js";

export interface CudaDevice {
  /** What `cuda:N` calls it; counts the devices that CUDA_VISIBLE_DEVICES shows. */
  index: number;
  name: string;
  /** Major and minor compute capability: "9.0". */
  capability: string;
  totalBytes: number;
  /** Null where NVML does not tell. */
  freeBytes: number | null;
}

export interface CudaDriver {
  /** The newest CUDA this driver serves: "13.0". Null without a working driver. */
  version: string | null;
  /** What nvidia-smi calls the driver's version: "580.95.05". Null where NVML does not tell. */
  release: string | null;
  devices: CudaDevice[];
  /** Why there is no version or no device, in NVIDIA's words where it has any. */
  problem: string | null;
}

type NativeFunction = KoffiFunc<(...args: unknown[]) => number>;

const SUCCESS = 0;
// CUdevice_attribute: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
const CAPABILITY = [75, 76];

/** Functions of one of the driver's libraries, looked up when they are called; all return 0 on success. */
class DriverLibrary {
  readonly #handle: LibraryHandle;
  readonly #functions = new Map<string, NativeFunction>();

  private constructor(handle: LibraryHandle) {
    this.#handle = handle;
  }

  /** Null where the loader finds no such library. */
  static open(name: string): DriverLibrary | null {
    try {
      return new DriverLibrary(koffi.load(name));
    } catch {
      return null;
    }
  }

  /** Calls `name(parameters)`; throws where the library lacks it. */
  call(name: string, parameters: string, ...args: unknown[]): number {
    let native = this.#functions.get(name);
    if (!native) {
      native = this.#handle.func(`int ${name}(${parameters})`) as NativeFunction;
      this.#functions.set(name, native);
    }
    return native(...args);
  }

  /** The text a function `(char* buffer, int length)` writes, null where it fails. */
  text(name: string, before: string, ...args: unknown[]): string | null {
    const buffer = Buffer.alloc(128);
    try {
      const status = this.call(name, `char* text, int length${before}`, buffer, buffer.length, ...args);
      return status === SUCCESS ? buffer.toString("latin1", 0, buffer.indexOf(0)) : null;
    } catch {
      return null;
    }
  }
}

// A driver's library is never unloaded: CUDA holds threads and callbacks in it.
let cuda: DriverLibrary | null = null;
let nvml: DriverLibrary | null = null;

/**
 * Asks the NVIDIA driver for its version and devices, through libcuda.so.1 and, for what needs no CUDA context, NVML.
 * No context is made and no device memory taken. Never throws.
 */
export function readDriver(): CudaDriver {
  const driver: CudaDriver = { version: null, release: null, devices: [], problem: null };
  cuda ??= DriverLibrary.open("libcuda.so.1");
  if (!cuda) {
    driver.problem = "libcuda.so.1, which comes with the NVIDIA driver, is not on this machine";
    return driver;
  }
  try {
    nvml ??= openNvml();
    driver.release = nvml?.text("nvmlSystemGetDriverVersion", "") ?? null;
    const started = cuda.call("cuInit", "unsigned int flags", 0);
    if (started !== SUCCESS) {
      driver.problem = `cuInit: ${errorText(cuda, started)}`;
      return driver;
    }
    driver.version = versionText(readInteger(cuda, "cuDriverGetVersion"));
    const count = readInteger(cuda, "cuDeviceGetCount");
    for (let index = 0; index < count; index++) driver.devices.push(readDevice(cuda, index));
    if (count === 0) driver.problem = "it shows no device";
  } catch (error) {
    driver.problem = (error as Error).message;
  }
  return driver;
}

function readDevice(library: DriverLibrary, index: number): CudaDevice {
  const device = readInteger(library, "cuDeviceGet", ", int ordinal", index);
  const bytes: [bigint | number] = [0];
  library.call("cuDeviceTotalMem_v2", "_Out_ size_t* bytes, int device", bytes, device);
  const capability = CAPABILITY.map((attribute) =>
    readInteger(library, "cuDeviceGetAttribute", ", int attribute, int device", attribute, device),
  );
  return {
    index,
    name: library.text("cuDeviceGetName", ", int device", device) ?? "unnamed",
    capability: capability.join("."),
    totalBytes: Number(bytes[0]),
    freeBytes: freeBytes(library, device),
  };
}

function openNvml(): DriverLibrary | null {
  const library = DriverLibrary.open("libnvidia-ml.so.1");
  return library?.call("nvmlInit_v2", "") === SUCCESS ? library : null;
}

function freeBytes(library: DriverLibrary, device: number): number | null {
  // NVML counts devices its own way: only the PCI address is the same on both sides.
  const address = library.text("cuDeviceGetPCIBusId", ", int device", device);
  if (!nvml || !address) return null;
  try {
    const handle: [bigint | null] = [null];
    const found = nvml.call(
      "nvmlDeviceGetHandleByPciBusId_v2",
      "const char* id, _Out_ void** device",
      address,
      handle,
    );
    // nvmlMemory_t: total, free and used bytes, unsigned 64 bit each.
    const memory = new BigUint64Array(3);
    if (
      found !== SUCCESS ||
      nvml.call("nvmlDeviceGetMemoryInfo", "void* device, void* memory", handle[0], memory)
    )
      return null;
    return Number(memory[1]);
  } catch {
    return null;
  }
}

function readInteger(library: DriverLibrary, name: string, after = "", ...args: unknown[]): number {
  const value: [number] = [0];
  const status = library.call(name, `_Out_ int* value${after}`, value, ...args);
  if (status !== SUCCESS) throw new Error(`${name}: ${errorText(library, status)}`);
  return value[0];
}

function errorText(library: DriverLibrary, status: number): string {
  const text: [string | null] = [null];
  try {
    library.call("cuGetErrorString", "int status, _Out_ const char** text", status, text);
  } catch {
    // A library without the function: the number has to do.
  }
  return `${text[0] ?? "CUDA error"} (${status})`;
}

function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}
