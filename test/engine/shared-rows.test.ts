import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { BatchRunner } from "../../src/engine/batch.js";
import { KvCache } from "../../src/engine/cache.js";
import { Engine } from "../../src/engine/engine.js";
import { SharedRows } from "../../src/engine/shared-rows.js";
import { idle } from "../support/idle.js";
import { randomModel, reseal, withoutBranches } from "../support/model.js";
import { Alike, done, ids, outcomes, type Seen, SHARED } from "./alike.js";
import { totalsOf } from "./totals.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 25);

let modelDir: string;
let plain: Engine;
let engine: Engine;
let checked: Alike;
beforeAll(async () => {
  ({ modelDir } = await randomModel({ config: tiny, dtype: "BF16" }));
  // Runs of several at once are another file's.
  await reseal(modelDir, withoutBranches);
  plain = await Engine.load(modelDir, { maxStreams: 1, maxTokens: 256, prefixCache: false });
  engine = await Engine.load(modelDir, { maxStreams: 6, maxTokens: 256 });
  checked = new Alike(plain);
});
afterAll(async () => {
  await engine.close();
  await plain.close();
});

// Also where a test has failed.
afterEach(() => {
  vi.restoreAllMocks();
});

const alike = (seed: number, key: string, before: readonly number[], on = engine) =>
  checked.open(on, key, before, seed);

/** Has something happen before each run of a guest; counts them. */
function watchGuests(before: (nth: number) => void = () => {}) {
  const watched = { runs: 0, restore: () => spy.mockRestore() };
  const { run } = BatchRunner.prototype;
  const spy = vi.spyOn(BatchRunner.prototype, "run").mockImplementation(function (
    this: BatchRunner,
    ...args
  ) {
    const [row] = args[0].rows;
    if (row && !("feed" in row)) before(watched.runs++);
    return run.apply(this, args);
  });
  return watched;
}

test("of many that begin alike all are judged before what they share was copied for more than one", async () => {
  const before = ids(1, SHARED);
  const copies = vi.spyOn(KvCache.prototype, "copy");
  const guests = watchGuests();
  const totals = totalsOf(engine);
  const all = [1, 2, 3, 4, 5, 6].map((seed) => alike(seed, "all", before));
  await Promise.all(all.map(({ judged }) => judged));
  expect(copies).toHaveBeenCalledTimes(1);
  // The first has read what they share, the last is the host.
  expect(guests.runs).toBe(4);
  await Promise.all(all.map(({ fed }) => fed));
  expect(copies).toHaveBeenCalledTimes(5);
  // What ran ahead and once more is counted once.
  expect(totalsOf(engine)).toEqual({
    reused: totals.reused + 5 * SHARED,
    prefilled: totals.prefilled + SHARED + 6 * 8,
  });
  for (const { sequence, seen, tokens } of all) {
    await sequence.feed(ids(9, 4), checked.recorder(seen));
    await checked.expectSame(seen, [...tokens, ...ids(9, 4)]);
    expect([...seen.keys()]).toEqual([SHARED - 1, SHARED + 2, ...[8, 9, 10, 11].map((i) => SHARED + i)]);
    sequence.close(done);
  }
  guests.restore();
  copies.mockRestore();
});

test.each([130, 150, 170])(
  "of those that begin alike with %i tokens either one has a copy ahead of the others, or all have",
  async (shared) => {
    const before = ids(13, shared);
    const opened = vi.spyOn(SharedRows.prototype, "open");
    const guests = watchGuests();
    const all = [1, 2, 3, 4, 5, 6].map((seed) => {
      const sequence = engine.open(`all or one ${shared}`);
      const tokens = [...before, 300 + seed, 310 + seed];
      const seen: Seen = new Map();
      return { sequence, tokens, seen, fed: sequence.feed(tokens, checked.recorder(seen), 0, [shared + 1]) };
    });
    await Promise.all(all.map(({ fed }) => fed));
    expect([0, 4]).toContain(guests.runs);
    expect(opened).toHaveBeenCalledTimes(guests.runs / 4);
    guests.restore();
    for (const { sequence, seen, tokens } of all) {
      await checked.expectSame(seen, tokens);
      sequence.close(done);
    }
  },
);

test("those that are closed once they are judged were never copied, and are counted", async () => {
  const copies = vi.spyOn(KvCache.prototype, "copy");
  const totals = totalsOf(engine);
  const all = [1, 2, 3, 4, 5, 6].map((seed) => alike(seed, "closed", ids(2, SHARED)));
  for (const { judged, sequence } of all) judged.then(() => sequence.close(done));
  await Promise.all(all.map(({ judged }) => judged));
  // The host took the slot over that the first one left.
  expect(copies).not.toHaveBeenCalled();
  const { reused, prefilled } = totalsOf(engine);
  expect(reused).toBe(totals.reused + 5 * SHARED);
  expect(prefilled - totals.prefilled).toBeGreaterThanOrEqual(SHARED + 6 * 3);
  await idle(engine);
  copies.mockRestore();
});

test.each([0, 1, 3])(
  "when the host is closed before guest %i runs, all others are judged as if alone",
  async (when) => {
    const all = [1, 2, 3, 4, 5, 6].map((seed) => alike(seed, `host ${when}`, ids(3, SHARED)));
    const guests = watchGuests((nth) => nth === when && all[5].sequence.close(done));
    await expect(all[5].fed).rejects.toBe(done);
    await Promise.all(all.slice(0, 5).map(({ fed }) => fed));
    guests.restore();
    for (const { sequence, seen, tokens } of all.slice(0, 5)) {
      expect([...seen.keys()]).toEqual([SHARED - 1, SHARED + 2]);
      await checked.expectSame(seen, tokens);
      sequence.close(done);
    }
  },
);

test("a guest that is closed while it runs leaves its slot to one that waits, and the others as they were", async () => {
  const all = [1, 2, 3, 4, 5, 6].map((seed) => alike(seed, "guest", ids(4, SHARED)));
  const waiting = engine.open("another");
  const seen: Seen = new Map();
  const tokens = ids(5, 60);
  const fed = waiting.feed(tokens, checked.recorder(seen));
  const guests = watchGuests((nth) => nth === 1 && all[2].sequence.close(done));
  await expect(all[2].fed).rejects.toBe(done);
  await Promise.all([fed, ...all.filter((_, i) => i !== 2).map(({ fed }) => fed)]);
  guests.restore();
  await checked.expectSame(seen, tokens);
  for (const [i, one] of all.entries()) {
    if (i !== 2) await checked.expectSame(one.seen, one.tokens);
    one.sequence.close(done);
  }
  waiting.close(done);
});

test("a guest whose numbers go wrong fails alone, and nothing that begins alike stays warm for others", async () => {
  const all = [1, 2, 3, 4, 5, 6].map((seed) => alike(seed, "poisoned", ids(6, SHARED)));
  const { run } = BatchRunner.prototype;
  let runs = 0;
  const spy = vi.spyOn(BatchRunner.prototype, "run").mockImplementation(async function (
    this: BatchRunner,
    ...args
  ) {
    const logits = await run.apply(this, args);
    const [row] = args[0].rows;
    if (row && !("feed" in row) && runs++ === 1) Object.values(logits)[0].fill(Number.NaN);
    return logits;
  });
  const failed = await outcomes(all);
  spy.mockRestore();
  expect(failed.filter((code) => code !== "read")).toEqual(["LOGITS_NOT_FINITE"]);
  for (const { sequence, seen, tokens } of all) {
    if (!sequence.failure) await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("streams of other keys are neither guests nor hosts, though their ids are the same", async () => {
  const opened = vi.spyOn(SharedRows.prototype, "open");
  const all = ["a", "b", "c", "d", "e", "f"].map((key, seed) => alike(seed, key, ids(7, SHARED)));
  await Promise.all(all.map(({ fed }) => fed));
  expect(opened).not.toHaveBeenCalled();
  opened.mockRestore();
  for (const { sequence } of all) sequence.close(done);
});

test("what was read with the same ids is told at once, and the copy comes behind it", async () => {
  const tokens = ids(8, SHARED);
  const first = engine.open("same");
  await first.feed(tokens, () => {}, 0, [SHARED - 1]);
  const copies = vi.spyOn(KvCache.prototype, "copy");
  const second = engine.open("same");
  let told = false;
  const fed = second.feed(
    tokens,
    () => {
      told = true;
      expect(copies).not.toHaveBeenCalled();
    },
    0,
    [SHARED - 1],
  );
  await fed;
  expect(told).toBe(true);
  expect(copies).toHaveBeenCalledTimes(1);
  copies.mockRestore();
  for (const one of [first, second]) one.close(done);
});

test("a reader that throws as it is told fails its own sequence alone", async () => {
  const tokens = ids(9, SHARED);
  const first = engine.open("throws");
  await first.feed(tokens, () => {}, 0, [SHARED - 1]);
  const second = engine.open("throws");
  const thrown = () => {
    throw new Error("mine");
  };
  await expect(second.feed(tokens, thrown, 0, [SHARED - 1])).rejects.toMatchObject({ code: "INTERNAL" });
  const seen: Seen = new Map();
  await first.feed([1, 2], checked.recorder(seen));
  await checked.expectSame(seen, [...tokens, 1, 2]);
  first.close(done);
  await idle(engine);
});

test("where free slots keep nothing, those that begin alike at once are judged in one row all the same", async () => {
  const forgetful = await Engine.load(modelDir, {
    maxStreams: 4,
    maxTokens: 256,
    prefixCache: { maxTokens: 1 },
  });
  const guests = watchGuests();
  const all = [1, 2, 3, 4].map((seed) => alike(seed, "", ids(10, SHARED), forgetful));
  await Promise.all(all.map(({ fed }) => fed));
  expect(guests.runs).toBe(2);
  for (const { sequence, seen, tokens } of all) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
  const before = totalsOf(forgetful);
  const again = alike(1, "", ids(10, SHARED), forgetful);
  await again.fed;
  expect(totalsOf(forgetful).reused).toBe(before.reused);
  await forgetful.close();
});

test("streams that come while what they share is read ahead stop that, and are judged as if alone", async () => {
  const shared = ids(11, SHARED);
  const ahead = engine.openBackground("ahead");
  const read = ahead.feed(shared, () => {}, 0, [SHARED - 1]);
  await new Promise(setImmediate);
  const all = [1, 2, 3, 4, 5].map((seed) => alike(seed, "ahead", shared));
  await expect(read).rejects.toMatchObject({ code: "STREAM_CLOSED" });
  await Promise.all(all.map(({ fed }) => fed));
  for (const { sequence, seen, tokens } of all) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("an engine that closes while guests run ends all of them", async () => {
  const closing = await Engine.load(modelDir, { maxStreams: 4, maxTokens: 256 });
  const all = [1, 2, 3, 4].map((seed) => alike(seed, "", ids(12, SHARED), closing));
  const guests = watchGuests((nth) => nth === 0 && void closing.close());
  const codes = await outcomes(all);
  expect(guests.runs).toBe(1);
  expect(new Set(codes)).toEqual(new Set(["read", "GUARD_CLOSED"]));
  await closing.close();
});

test("random streams that begin alike, closed at any moment, read what they would read alone", async () => {
  const guests = watchGuests();
  await checked.playRounds(engine, RUNS);
  expect(guests.runs).toBeGreaterThan(0);
});
