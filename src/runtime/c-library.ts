import type { LibraryHandle } from "koffi";
import koffi from "./ffi.js";

let library: LibraryHandle | undefined;

/** A function of the C library that the process runs on, by its declaration in C. */
export function cFunction(declaration: string) {
  library ??= koffi.load(process.platform === "win32" ? "ucrtbase.dll" : null);
  return library.func(declaration);
}
