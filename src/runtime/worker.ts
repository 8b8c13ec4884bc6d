import type { NativeFunction } from "./native-function.js";

/** Threads of libuv's pool, which runs the calls; it reads the variable once, and takes no more than 1024. */
export function workerThreads(): number {
  const wanted = Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? "", 10);
  return Number.isNaN(wanted) ? 4 : Math.min(Math.max(wanted, 1), 1024);
}

/** Calls it on a worker thread: the event loop goes on meanwhile. Rejects with what `check` throws of its status. */
export function callOnWorker<Status>(
  native: NativeFunction<Status>,
  args: unknown[],
  check: (status: Status) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    native.async(...args, (error: unknown, status: Status) => {
      // Held until here: koffi itself keeps no memory alive that a running call was given.
      args.length = 0;
      if (error) return reject(error);
      try {
        check(status);
        resolve();
      } catch (failure) {
        reject(failure);
      }
    });
  });
}
