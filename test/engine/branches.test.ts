import { copyFile, cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, type Mock, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { BatchRunner } from "../../src/engine/batch.js";
import { BranchRunner } from "../../src/engine/branch-runner.js";
import { KvCache } from "../../src/engine/cache.js";
import { Engine } from "../../src/engine/engine.js";
import type { Logits } from "../../src/engine/logits.js";
import { LogitsLayout } from "../../src/engine/logits-block.js";
import { SharedRows } from "../../src/engine/shared-rows.js";
import { BRANCHES_FILE } from "../../src/model/manifest.js";
import { Binding } from "../../src/runtime/binding.js";
import { Session } from "../../src/runtime/session.js";
import { idle } from "../support/idle.js";
import { randomModel, reseal, temporaryFolder } from "../support/model.js";
import { Alike, done, ids, outcomes, type Seen, SHARED } from "./alike.js";
import { totalsOf } from "./totals.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 25);
const OPTIONS = { maxStreams: 6, maxTokens: 256 };
const SEEDS = [1, 2, 3, 4, 5, 6];

let modelDir: string;
let plain: Engine;
let engine: Engine;
let checked: Alike;
beforeAll(async () => {
  ({ modelDir } = await randomModel({ config: tiny, dtype: "BF16" }));
  plain = await Engine.load(modelDir, { maxStreams: 1, maxTokens: 256, prefixCache: false });
  checked = new Alike(plain);
  engine = await trusting(modelDir);
});
afterAll(async () => {
  await engine.close();
  await plain.close();
});

// Also where a test has failed.
afterEach(() => {
  vi.restoreAllMocks();
});

/** Counts tokens of each run in a shared row: of several branches, and of one guest alone. */
function watchRuns(before: () => void = () => {}) {
  const watched = { together: [] as number[][], alone: [] as number[] };
  const { run } = BranchRunner.prototype;
  vi.spyOn(BranchRunner.prototype, "run").mockImplementation(function (this: BranchRunner, ...args) {
    watched.together.push(args[2].map(({ count }) => count));
    before();
    return run.apply(this, args);
  });
  const { run: runBatch } = BatchRunner.prototype;
  vi.spyOn(BatchRunner.prototype, "run").mockImplementation(function (this: BatchRunner, ...args) {
    const [row] = args[0].rows;
    if (row && !("feed" in row)) watched.alone.push(args[0].length);
    return runBatch.apply(this, args);
  });
  return watched;
}

/** Six streams that begin alike, to the end. */
async function wave(on: Engine, key: string, alike = checked) {
  const all = SEEDS.map((seed) => alike.open(on, key, ids(1, SHARED), seed));
  await Promise.all(all.map(({ fed }) => fed));
  for (const { sequence, seen, tokens } of all) {
    await alike.expectSame(seen, tokens);
    sequence.close(done);
  }
}

/** Has streams begin alike until guests were run together, or the process was warned. */
async function tried(on: Engine, key: string, alike = checked) {
  const watched = watchRuns();
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on("warning", warned);
  for (let i = 0; watched.together.length === 0 && warnings.length === 0; i++) {
    await wave(on, `${key} ${i}`, alike);
    await new Promise(setImmediate);
  }
  await new Promise(setImmediate);
  process.off("warning", warned);
  vi.restoreAllMocks();
  return { ...watched, warnings };
}

/** An engine that has found its graph for branches to say what the other says. */
async function trusting(dir: string, options = OPTIONS, alike = checked): Promise<Engine> {
  const loaded = await Engine.load(dir, options);
  expect((await tried(loaded, "first", alike)).warnings).toEqual([]);
  return loaded;
}

test("guests run one after the other until a few have said the same together", async () => {
  const fresh = await Engine.load(modelDir, OPTIONS);
  const { together, alone } = await tried(fresh, "fresh");
  expect(together[0]).toEqual([3, 3]);
  expect(alone.length).toBeGreaterThanOrEqual(4);
  const watched = watchRuns();
  await wave(fresh, "after");
  expect(watched).toEqual({ together: [[3, 3, 3, 3, 3]], alone: [] });
  await fresh.close();
});

test("many that begin alike are judged in one run, their host among them, before what they share was copied for more than one", async () => {
  const copies = vi.spyOn(KvCache.prototype, "copy");
  const { together, alone } = watchRuns();
  const totals = totalsOf(engine);
  const all = SEEDS.map((seed) => checked.open(engine, "all", ids(2, SHARED), seed));
  await Promise.all(all.map(({ judged }) => judged));
  expect(copies).toHaveBeenCalledTimes(1);
  // The first has read what they share, the last is the host.
  expect(together).toEqual([[3, 3, 3, 3, 3]]);
  expect(alone).toEqual([]);
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
    sequence.close(done);
  }
});

test("what the host brings of its own to that run is in its row, and does not run again", async () => {
  const { run } = BatchRunner.prototype;
  const all = SEEDS.map((seed) => checked.open(engine, "own", ids(12, SHARED), seed));
  const [host] = all.slice(-1);
  let ran = 0;
  vi.spyOn(BatchRunner.prototype, "run").mockImplementation(function (this: BatchRunner, ...args) {
    const { rows, active, length } = args[0];
    if (rows.some((row, i) => row === host.sequence && active[i])) ran += length;
    return run.apply(this, args);
  });
  await Promise.all(all.map(({ fed }) => fed));
  // Of its eight tokens three are awaited.
  expect(ran).toBe(5);
  for (const { sequence, seen, tokens } of all) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("one of another key runs in no run of theirs, though its ids are the same", async () => {
  const opened = vi.spyOn(SharedRows.prototype, "open");
  const mine = SEEDS.slice(1).map((seed) => checked.open(engine, "mine", ids(13, SHARED), seed));
  await mine[0].judged;
  // The others, who have waited for this, begin together with it.
  const theirs = checked.open(engine, "theirs", ids(13, SHARED), 1);
  await Promise.all([...mine, theirs].map(({ fed }) => fed));
  expect(opened).toHaveBeenCalledTimes(1);
  const [[host, guests]] = opened.mock.calls;
  expect([...guests, host].map(({ key }) => key)).toEqual(["mine", "mine", "mine", "mine"]);
  expect(theirs.sequence).toMatchObject({ reused: 0, prefilled: SHARED + 8 });
  for (const { sequence, seen, tokens } of [...mine, theirs]) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("those that begin alike in one way run in another run than those that do in another", async () => {
  const starts = [ids(14, SHARED), ids(15, SHARED)];
  for (const start of starts) {
    const first = checked.open(engine, "ways", start, 0);
    await first.fed;
    first.sequence.close(done);
  }
  const { together } = watchRuns();
  const all = starts.flatMap((start) => [1, 2, 3].map((seed) => checked.open(engine, "ways", start, seed)));
  await Promise.all(all.map(({ fed }) => fed));
  expect(together).toEqual([
    [3, 3, 3],
    [3, 3, 3],
  ]);
  for (const { sequence, seen, tokens } of all) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("two that begin alike with one that has read it are judged in one run", async () => {
  const { together } = watchRuns();
  const all = SEEDS.slice(0, 3).map((seed) => checked.open(engine, "three", ids(2, SHARED), seed));
  await Promise.all(all.map(({ fed }) => fed));
  expect(together).toEqual([[3, 3]]);
  for (const { sequence, seen, tokens } of all) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("in w8a8 they are told what each would be told alone, as near as chunks are", async () => {
  const { modelDir: dir } = await randomModel({ config: tiny, dtype: "BF16" }, "w8a8");
  const alone = await Engine.load(dir, { maxStreams: 1, maxTokens: 256, prefixCache: false });
  const alike = new Alike(alone, 0.2);
  const together = await trusting(dir, OPTIONS, alike);
  const watched = watchRuns();
  await wave(together, "w8a8", alike);
  expect(watched.together).toEqual([[3, 3, 3, 3, 3]]);
  for (const one of [alone, together]) await one.close();
});

test.each([
  [SHARED + 13, [[3, 3, 3, 3]], "all guests, and their host by itself"],
  [
    SHARED + 8,
    [
      [3, 3, 3],
      [3, 3],
    ],
    "as many as fit, and then the others with their host",
  ],
])("in a cache of %i positions %j run together: %s", async (maxTokens, runs) => {
  const small = await trusting(modelDir, { ...OPTIONS, maxTokens });
  const { together } = watchRuns();
  await wave(small, "small");
  expect(together).toEqual(runs);
  await small.close();
});

test("a guest that is closed while they run is not told, and the others are", async () => {
  const all = SEEDS.map((seed) => checked.open(engine, "guest", ids(4, SHARED), seed));
  watchRuns(() => all[2].sequence.close(done));
  await expect(all[2].fed).rejects.toBe(done);
  const others = all.filter((_, i) => i !== 2);
  await Promise.all(others.map(({ fed }) => fed));
  expect([...all[2].seen.keys()]).toEqual([SHARED - 1]);
  for (const { sequence, seen, tokens } of others) {
    expect([...seen.keys()]).toEqual([SHARED - 1, SHARED + 2]);
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
  await idle(engine);
});

test("when the host is closed while they run, all others are judged as if alone", async () => {
  const all = SEEDS.map((seed) => checked.open(engine, "host", ids(5, SHARED), seed));
  watchRuns(() => all[5].sequence.close(done));
  await expect(all[5].fed).rejects.toBe(done);
  await Promise.all(all.slice(0, 5).map(({ fed }) => fed));
  for (const { sequence, seen, tokens } of all.slice(0, 5)) {
    expect([...seen.keys()]).toEqual([SHARED - 1, SHARED + 2]);
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
  await idle(engine);
});

test("a run that fails ends those that ran, and nobody else", async () => {
  const all = SEEDS.map((seed) => checked.open(engine, "fails", ids(6, SHARED), seed));
  vi.spyOn(BranchRunner.prototype, "run").mockRejectedValueOnce(new Error("no memory"));
  const ended = await Promise.allSettled(all.map(({ fed }) => fed));
  expect(ended.map(({ status }) => status)).toEqual([
    "fulfilled",
    ...["rejected", "rejected", "rejected", "rejected", "fulfilled"],
  ]);
  for (const { sequence, seen, tokens } of all) {
    await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
  await idle(engine);
});

test("where numbers go wrong in one run of several, each runs alone, and only the one they come of fails", async () => {
  const all = SEEDS.map((seed) => checked.open(engine, "poisoned", ids(7, SHARED), seed));
  vi.spyOn(BranchRunner.prototype, "run").mockResolvedValueOnce(null);
  const { run } = BatchRunner.prototype;
  let guests = 0;
  vi.spyOn(BatchRunner.prototype, "run").mockImplementation(async function (this: BatchRunner, ...args) {
    const logits = await run.apply(this, args);
    const [row] = args[0].rows;
    if (row && !("feed" in row) && guests++ === 1) Object.values(logits)[0].fill(Number.NaN);
    return logits;
  });
  const codes = await outcomes(all);
  expect(codes.sort()).toEqual(["LOGITS_NOT_FINITE", "read", "read", "read", "read", "read"]);
  expect(guests).toBe(4);
  for (const { sequence, seen, tokens } of all) {
    if (!sequence.failure) await checked.expectSame(seen, tokens);
    sequence.close(done);
  }
});

test("one number that is none, the last of one run of several, has each run alone", async () => {
  const views = vi.spyOn(LogitsLayout.prototype, "views");
  const poisoned = await trusting(modelDir);
  const [{ promptCategory }] = views.mock.results.slice(-1).map(({ value }) => value as Logits);
  const { run } = Binding.prototype;
  const watched = watchRuns(() => {
    vi.spyOn(Binding.prototype, "run").mockImplementationOnce(async function (this: Binding) {
      await run.call(this);
      const { width } = poisoned.manifest.outputs.find(({ name }) => name === "promptCategory")!;
      promptCategory[5 * 3 * width - 1] = Number.NaN;
    });
  });
  await wave(poisoned, "poisoned");
  // And together once more, held against what each was told alone.
  expect(watched).toEqual({
    together: [
      [3, 3, 3, 3, 3],
      [3, 3, 3, 3],
    ],
    alone: [3, 3, 3, 3],
  });
  await poisoned.close();
});

describe("a graph for branches that cannot be believed", () => {
  /** The model with another file for its graph, which its manifest vouches for. */
  async function altered(alter: (path: string) => Promise<unknown>): Promise<string> {
    const dir = join(await temporaryFolder(), "altered");
    await cp(modelDir, dir, { recursive: true });
    await alter(join(dir, BRANCHES_FILE));
    await reseal(dir);
    return dir;
  }

  test.each<[string, RegExp, number, () => Promise<string>]>([
    [
      "is another model's",
      /promptRisk is .* away from .*, and 0\.001 is allowed/,
      1,
      async () => {
        const other = await randomModel({ config: tiny, dtype: "BF16", seed: 99 });
        return altered((path) => copyFile(join(other.modelDir, BRANCHES_FILE), path));
      },
    ],
    ["is none", /cannot load .*branches\.onnx/, 0, () => altered((path) => writeFile(path, "no graph"))],
  ])(
    "that %s: guests run one after the other, and the process is warned once",
    async (_, why, opened, make) => {
      const wary = await Engine.load(await make(), OPTIONS);
      const released = vi.spyOn(BranchRunner.prototype, "release");
      const { warnings } = await tried(wary, "wary");
      expect(warnings).toMatchObject([
        { code: "QWEN3GUARD_NOT_BRANCHED", message: expect.stringMatching(why) },
      ]);
      expect(released).toHaveBeenCalledTimes(opened);
      const watched = watchRuns();
      await wave(wary, "after");
      expect(watched).toEqual({ together: [], alone: [3, 3, 3, 3] });
      await wary.close();
    },
  );

  test("that was taken away since the model was loaded: so too", async () => {
    const dir = await altered(async () => {});
    const wary = await Engine.load(dir, OPTIONS);
    await rm(join(dir, BRANCHES_FILE));
    const { warnings } = await tried(wary, "gone");
    expect(warnings).toMatchObject([{ code: "QWEN3GUARD_NOT_BRANCHED" }]);
    await wave(wary, "after");
    await wary.close();
  });

  test.each(["before it is read", "while it is read"])("that changes %s: so too", async (when) => {
    const dir = await altered(async () => {});
    const path = join(dir, BRANCHES_FILE);
    const wary = await Engine.load(dir, OPTIONS);
    // What is written is what was there: only which file it is tells.
    const rewrite = async () => writeFile(path, await readFile(path));
    const { load } = Session;
    let released: Mock | undefined;
    const loads = vi.spyOn(Session, "load").mockImplementation(async (...args) => {
      const session = await load.apply(Session, args);
      released = vi.spyOn(session, "release");
      await rewrite();
      return session;
    });
    if (when === "before it is read") await rewrite();
    const { together, warnings } = await tried(wary, when);
    expect(warnings).toMatchObject([
      { code: "QWEN3GUARD_NOT_BRANCHED", message: expect.stringMatching(/branches\.onnx changed/) },
    ]);
    expect(together).toEqual([]);
    const times = when === "before it is read" ? 0 : 1;
    expect(loads).toHaveBeenCalledTimes(times);
    expect(released?.mock.calls.length ?? 0).toBe(times);
    await wary.close();
  });
});

test("an engine that closes while its graph for branches is opened, or runs, ends all streams", async () => {
  for (const closing of [await Engine.load(modelDir, OPTIONS), await trusting(modelDir)]) {
    const all = SEEDS.map((seed) => checked.open(closing, "closing", ids(8, SHARED), seed));
    await Promise.race(all.map(({ judged }) => judged));
    await closing.close();
    const codes = await outcomes(all);
    expect(codes).toContain("GUARD_CLOSED");
    for (const { seen, tokens } of all) await checked.expectSame(seen, tokens);
  }
});

test("random streams that begin alike, closed at any moment, read what they would read alone", async () => {
  const { together } = watchRuns();
  await checked.playRounds(engine, RUNS);
  expect(together.length).toBeGreaterThan(0);
});

/** What is told of nobody's tokens but a stream's own: two streams that differ where the third's tokens stand. */
test("what one branch brings changes no digit of another's", async () => {
  const told = async (key: string, neighbour: number): Promise<Seen> => {
    const all = [1, 2, neighbour, 4, 5, 6].map((seed) => checked.open(engine, key, ids(3, SHARED), seed));
    await Promise.all(all.map(({ fed }) => fed));
    for (const { sequence } of all) sequence.close(done);
    return all[3].seen;
  };
  const { together } = watchRuns();
  expect(await told("a", 3)).toEqual(await told("b", 77));
  expect(together).toEqual([
    [3, 3, 3, 3, 3],
    [3, 3, 3, 3, 3],
  ]);
});
