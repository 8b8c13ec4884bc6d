import { availableParallelism } from "node:os";
import { Option } from "commander";
import { isWorker } from "./cluster.js";
import type { ModelOptions } from "./model-options.js";
import { whole } from "./numbers.js";
import { closeWhenAsked, type Stop } from "./stop.js";

/** What a server's command line says of its processes. */
export interface WorkersOptions extends ModelOptions {
  /** 0 where the machine is to say. */
  workers: number;
  port: number;
  host: string;
  /** Seconds for what is under way, at SIGTERM. */
  grace: number;
}

/** A step uses no more threads than this by itself. */
const THREADS_A_STEP = 8;

export function workersOption(): Option {
  return new Option(
    "--workers <n>",
    'processes behind the port, each with a guard and places of its own; "auto": as the machine has cores',
  )
    .default(1)
    .argParser((value) => (value === "auto" ? 0 : whole(1, 512)(value)));
}

/** Whether this process is to start others, which answer in its place. */
export function runsWorkers(options: WorkersOptions): boolean {
  return !isWorker && countOf(options) > 1;
}

/**
 * Starts workers, which run this same command line, and waits until the process is asked to stop.
 *
 * @param mayAsk counts clients' requests for all workers
 */
export async function runWorkers(
  options: WorkersOptions,
  stop: Stop,
  say: (url: string) => void,
  mayAsk?: (client: string) => boolean,
): Promise<void> {
  const [{ WorkerPool }, { writeLine }] = await Promise.all([
    import("../gateway/cluster/worker-pool.js"),
    import("../gateway/audit/write.js"),
  ]);
  const { port, host } = options;
  const log = (line: string) => process.stderr.write(`${line}\n`);
  const pool = await WorkerPool.listen({
    workers: countOf(options),
    port,
    host,
    log,
    out: writeLine,
    mayAsk,
  });
  const closed = closeWhenAsked(pool, options.grace, stop);
  await pool.start();
  if (!stop.asked.aborted) say(pool.url);
  await closed;
}

/** A worker's part of the machine: the cores, unless threads were asked for. */
export function shareOf<O extends WorkersOptions>(options: O): O {
  if (options.threads !== undefined || !isWorker) return options;
  return { ...options, threads: Math.max(1, Math.floor(availableParallelism() / countOf(options))) };
}

/**
 * By itself, one process a core for the embedded guard, whose steps are too small to share; for others one for as many cores as a step
 * uses. On a GPU one: a second would not make it faster.
 */
function countOf({ workers, model, device }: WorkersOptions): number {
  if (workers > 0) return workers;
  if (device.startsWith("cuda")) return 1;
  return Math.max(1, Math.floor(availableParallelism() / (model === undefined ? 1 : THREADS_A_STEP)));
}
