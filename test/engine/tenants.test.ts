import fc from "fast-check";
import { afterEach, beforeAll, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { BatchRunner } from "../../src/engine/batch.js";
import { KvCache } from "../../src/engine/cache.js";
import { Engine } from "../../src/engine/engine.js";
import type { LogitsReader } from "../../src/engine/logits.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { ClosedError, NumericError } from "../../src/errors.js";
import { randomModel } from "../support/model.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 60);
const done = new ClosedError("STREAM_CLOSED", "done");

let modelDir: string;
beforeAll(async () => {
  ({ modelDir } = await randomModel({ config: tiny, dtype: "BF16" }));
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** Ids below 200: another tenant's may be others, one for one. */
const OTHERS = 250;
const ids = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => (i * 37 + seed * 11 + 8) % 200);

const stream = fc.record({
  tenant: fc.constantFrom("a", "b"),
  /** Of what all begin with. */
  shared: fc.constantFrom(20, 150, 200, 300, 420),
  own: fc.integer({ min: 0, max: 4 }),
  seed: fc.integer({ min: 0, max: 2 }),
  behind: fc.integer({ min: 0, max: 40 }),
  answer: fc.integer({ min: 0, max: 3 }),
  /** Opened while the run of this number is under way. */
  at: fc.integer({ min: 0, max: 12 }),
  /** Closed then, or poisoned; else when all is read. */
  until: fc.option(fc.integer({ min: 1, max: 20 }), { freq: 3 }),
  poisoned: fc.boolean(),
});
type Stream = typeof stream extends fc.Arbitrary<infer T> ? T : never;

/** All that is run, copied and told, in order, where the ids of tenant b are `shift` above what they are said to be. */
async function trace(engine: Engine, streams: readonly Stream[], shift: number) {
  const events: string[] = [];
  let moves = 0;
  const open = new Map<Stream, Sequence>();
  const ends: Promise<unknown>[] = [];
  const start = (one: Stream) => {
    if (open.has(one)) return;
    const { tenant, shared, own, seed, behind, answer } = one;
    const move = (id: number) => (tenant === "b" ? id + shift : id);
    const tokens = [...ids(1, shared), ...ids(seed + 3, own + behind)].map(move);
    const tell: LogitsReader = (_logits, _index, position) => {
      events.push(`told ${streams.indexOf(one)} ${position}`);
    };
    const sequence = engine.open(tenant);
    open.set(one, sequence);
    const reads = [...new Set([shared - 1, shared + own - 1])];
    const said = ids(seed + 9, answer).map(move);
    const fed = sequence
      .feed(tokens, tell, 0, reads)
      .then(() => sequence.feed(said, tell))
      .then(() => sequence.close(done));
    ends.push(fed.catch(() => {}));
  };
  const turn = (number: number) => {
    for (const one of streams) {
      if (one.at <= number) start(one);
      if (one.until === null || one.until > number) continue;
      open.get(one)?.close(one.poisoned ? new NumericError("LOGITS_NOT_FINITE", "poisoned") : done);
    }
  };
  const { run } = BatchRunner.prototype;
  const runs = vi.spyOn(BatchRunner.prototype, "run").mockImplementation(function (
    this: BatchRunner,
    ...args
  ) {
    const [{ firstRow, rows, active, length }] = args;
    events.push(`run ${firstRow} ${rows.length} ${active.map(Number).join("")} ${length}`);
    const running = run.apply(this, args);
    turn(++moves);
    return running;
  });
  const { copy } = KvCache.prototype;
  const copies = vi.spyOn(KvCache.prototype, "copy").mockImplementation(function (this: KvCache, ...args) {
    events.push(`copy ${args.slice(0, 3).join(" ")}`);
    return copy.apply(this, args);
  });
  turn(0);
  for (let count = 0; count < ends.length || open.size < streams.length; ) {
    if (count === ends.length) turn(99);
    count = ends.length;
    await Promise.all(ends);
  }
  runs.mockRestore();
  copies.mockRestore();
  return events;
}

test("what is run for one tenant, and when, does not depend on what another has said or is saying", async () => {
  // How much of a prompt is run at once depends on the time.
  vi.spyOn(performance, "now").mockReturnValue(0);
  await fc.assert(
    fc.asyncProperty(fc.array(stream, { minLength: 2, maxLength: 8 }), async (streams) => {
      const alike = await Engine.load(modelDir, { maxStreams: 4, maxTokens: 512 });
      const other = await Engine.load(modelDir, { maxStreams: 4, maxTokens: 512 });
      const same = await trace(alike, streams, 0);
      expect(same).toEqual(await trace(other, streams, OTHERS));
      await Promise.all([alike.close(), other.close()]);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});

test("where two tenants ask the same at once, what was read for one is told to that one alone, and the other's is run", async () => {
  const engine = await Engine.load(modelDir, { maxStreams: 4, maxTokens: 512 });
  const tokens = ids(1, 200);
  const first = engine.open("a");
  await first.feed(tokens, () => {}, 0, [199]);
  first.close(done);
  let runs = 0;
  const { run } = BatchRunner.prototype;
  vi.spyOn(BatchRunner.prototype, "run").mockImplementation(function (this: BatchRunner, ...args) {
    runs++;
    return run.apply(this, args);
  });
  const told = ["a", "b"].map((tenant) => {
    const sequence = engine.open(tenant);
    return new Promise<number>((resolve) => {
      const tell = () => resolve(runs);
      sequence.feed([...tokens, 7, 8, 9], tell, 0, [199, 202]).then(() => sequence.close(done));
    });
  });
  const [own, others] = await Promise.all(told);
  expect(own).toBe(0);
  expect(others).toBeGreaterThan(0);
  await engine.close();
});
