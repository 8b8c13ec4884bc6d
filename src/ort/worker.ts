import type { KoffiFunc } from "koffi";

/** A function of a native library. */
export type NativeFunction<Status> = KoffiFunc<(...args: unknown[]) => Status>;

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
