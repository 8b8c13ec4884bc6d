import { BatchRunner } from "../src/engine/batch.js";
import { Scheduler } from "../src/engine/scheduler.js";
import type { Sequence } from "../src/engine/sequence.js";

/** What ran in the background, and how often it did so while a stream had something to run. */
export interface BackgroundCounts {
  runs: number;
  /** Runs under way when a stream's tokens came. They stop before their next node. */
  interrupted: number;
  /** Runs that began while a stream waited: there must be none. */
  delaying: number;
}

/** Counts from now on, of all engines of the process. */
export function watchBackground(): BackgroundCounts {
  const counts: BackgroundCounts = { runs: 0, interrupted: 0, delaying: 0 };
  const woken = new Set<Sequence>();
  let underWay = false;
  const { run } = BatchRunner.prototype;
  BatchRunner.prototype.run = async function (batch, options) {
    if (!options?.background) return run.call(this, batch, options);
    counts.runs++;
    for (const sequence of woken) {
      if (sequence.failure === null && sequence.slot !== null && sequence.pending() > 0) counts.delaying++;
    }
    woken.clear();
    underWay = true;
    return run.call(this, batch, options).finally(() => {
      underWay = false;
    });
  };
  const { wake } = Scheduler.prototype;
  Scheduler.prototype.wake = function (sequence) {
    if (!sequence.background) {
      for (const other of woken) if (other.failure) woken.delete(other);
      woken.add(sequence);
      if (underWay) counts.interrupted++;
    }
    wake.call(this, sequence);
  };
  return counts;
}
