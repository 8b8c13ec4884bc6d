import { isMainThread } from "node:worker_threads";
import { cFunction } from "./c-library.js";

/** Functions of the C library that a native library's `getenv` sees the work of. */
interface NativeEnvironment {
  set(name: string, value: string): void;
  unset(name: string): void;
}

let native: NativeEnvironment | undefined;

/**
 * Sets a variable of the process's own environment, which native libraries read; undefined removes it. `process.env`
 * alone does not reach it everywhere: in a worker thread it is a copy, and on Windows the C library keeps another.
 */
export function setEnvironment(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
  if (isMainThread && process.platform !== "win32") return;
  native ??= process.platform === "win32" ? windowsEnvironment() : posixEnvironment();
  if (value === undefined) native.unset(name);
  else native.set(name, value);
}

function posixEnvironment(): NativeEnvironment {
  const set = cFunction("int setenv(const char* name, const char* value, int overwrite)");
  const unset = cFunction("int unsetenv(const char* name)");
  return { set: (name, value) => set(name, value, 1), unset: (name) => unset(name) };
}

function windowsEnvironment(): NativeEnvironment {
  const put = cFunction("int _putenv_s(const char* name, const char* value)");
  return { set: (name, value) => put(name, value), unset: (name) => put(name, "") };
}
