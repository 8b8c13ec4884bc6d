import type { Cluster } from "node:cluster";

/** Whether a pool of processes started this one: such a process has a channel to it. */
export const isWorker = process.send !== undefined && nodeCluster().isWorker;

/** Node's cluster, loaded where it is asked for: it brings all of networking along. */
export function nodeCluster(): Cluster {
  // Its types know it as an ES module alone, with all of this as the default export.
  return process.getBuiltinModule("node:cluster") as unknown as Cluster;
}
