import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { round } from "./stats.js";

/** More than the caches of any processor hold, for each thread. */
const BYTES = 2 ** 28;
const MILLISECONDS = 600;

/** Searching for a byte that is not there reads memory as fast as it comes (memchr). */
const READER = `
  const { parentPort } = require("node:worker_threads");
  const block = Buffer.alloc(${BYTES}, 1);
  let bytes = 0;
  const start = performance.now();
  while (performance.now() - start < ${MILLISECONDS}) {
    if (block.indexOf(2) >= 0) throw new Error("impossible");
    bytes += ${BYTES};
  }
  parentPort.postMessage(bytes / (performance.now() - start) / 1e6);
`;

/**
 * What all cores together read from memory, in GB/s. One token reads every weight once: the weights' bytes over this is
 * the least time that it can take, and figures of two machines, or of two moments on a shared one, compare by it.
 */
export async function memoryBandwidth(): Promise<number> {
  const readers = Array.from({ length: availableParallelism() }, () => {
    const worker = new Worker(READER, { eval: true });
    return new Promise<number>((resolve, reject) => worker.once("message", resolve).once("error", reject));
  });
  return round((await Promise.all(readers)).reduce((sum, rate) => sum + rate));
}
