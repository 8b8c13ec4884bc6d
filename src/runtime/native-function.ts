import type { Handle } from "./api.js";
import koffi from "./ffi.js";

/** A function of a native library, with what any thread needs to call it. */
export interface NativeFunction<Status> {
  (...args: unknown[]): Status;
  /** Calls it on one of libuv's threads. */
  async(...args: unknown[]): void;
  readonly address: Handle;
  /** In C, without a name: "int (void* stream)". */
  readonly prototype: string;
}

export function nativeFunction<Status>(address: Handle, prototype: string): NativeFunction<Status> {
  const native = koffi.decode(address, koffi.proto(prototype));
  return Object.assign(native, { address, prototype }) as NativeFunction<Status>;
}
