import { expect, test } from "vitest";
import type { BatchRunner } from "../../src/engine/batch.js";
import type { BranchRunner } from "../../src/engine/branch-runner.js";
import { GuestRuns } from "../../src/engine/guest-runs.js";
import type { Sequence } from "../../src/engine/sequence.js";
import type { Manifest } from "../../src/model/manifest.js";

const ROOM = 7;

/** Of a guest or host what is asked before it runs. */
const sequence = (tokens: number) =>
  ({
    length: 200,
    isAwaited: true,
    awaited: () => tokens,
    wantedBehind: () => tokens,
  }) as unknown as Sequence;

test("no more guests run along than tokens may run, or the row has room for", async () => {
  const branches = { room: () => ROOM, release() {} } as unknown as BranchRunner;
  const runs = new GuestRuns({} as BatchRunner, {} as Manifest, async () => branches);
  const [host, ...guests] = [3, 3, 3, 4].map(sequence);
  expect(runs.group(guests, host, 32).guests).toEqual(guests.slice(0, 1));
  // What runs them is open now.
  await new Promise(setImmediate);
  expect(runs.group(guests, host, 32).guests).toEqual(guests.slice(0, 2));
  expect(runs.group(guests, host, 6).guests).toEqual(guests.slice(0, 2));
  expect(runs.group(guests, host, 5).guests).toEqual(guests.slice(0, 1));
  expect(runs.group([guests[2], guests[2]], host, 32).guests).toEqual([guests[2]]);
  await runs.release();
});
