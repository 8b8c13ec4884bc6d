import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { KvCache } from "../../src/engine/cache.js";
import { Engine } from "../../src/engine/engine.js";
import type { LogitsReader } from "../../src/engine/logits.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { ClosedError, DeviceError, NumericError } from "../../src/errors.js";
import { randomModel } from "../support/model.js";
import { totalsOf } from "./totals.js";

const done = new ClosedError("STREAM_CLOSED", "done");
const TOLERANCE = 1e-3;
const RUNS = Number(process.env.PROPERTY_RUNS ?? 25);

let modelDir: string;
let plain: Engine;
beforeAll(async () => {
  ({ modelDir } = await randomModel({ config: tiny, dtype: "BF16" }));
  plain = await Engine.load(modelDir, { maxStreams: 1, maxTokens: 256, prefixCache: false });
});
afterAll(() => plain.close());

const ids = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => (i * 37 + seed * 101 + 8) % 512);

const warm = (maxStreams: number, options = {}) =>
  Engine.load(modelDir, { maxStreams, maxTokens: 256, ...options });

type Seen = Map<number, number[]>;

function recorder(seen: Seen): LogitsReader {
  return (logits, index, position) => {
    const values = Object.entries(logits).flatMap(([name, all]) => {
      const { width } = plain.manifest.outputs.find((output) => output.name === name)!;
      return [...all.slice(index * width, (index + 1) * width)];
    });
    seen.set(position, values);
  };
}

/** What is read at each position when all is read at once. */
async function atOnce(tokens: readonly number[]): Promise<Seen> {
  const seen: Seen = new Map();
  const sequence = plain.open();
  await sequence.feed(tokens, recorder(seen));
  sequence.close(done);
  return seen;
}

function expectSame(found: Seen, expected: Seen): void {
  for (const [position, values] of found) {
    const reference = expected.get(position) as number[];
    const distance = Math.max(...values.map((value, i) => Math.abs(value - reference[i])));
    expect(distance, `at position ${position}`).toBeLessThan(TOLERANCE);
  }
}

async function read(engine: Engine, tokens: number[], reads: number[], key = ""): Promise<[Sequence, Seen]> {
  const seen: Seen = new Map();
  const sequence = engine.open(key);
  await sequence.feed(tokens, recorder(seen), 0, reads);
  expect([...seen.keys()]).toEqual(reads);
  return [sequence, seen];
}

describe("a sequence that begins like an earlier one", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await warm(4);
  });
  afterAll(() => engine.close());
  const totals = () => totalsOf(engine);

  test("runs what is new alone, and reads what it would have read", async () => {
    const first = ids(1, 60);
    const [sequence] = await read(engine, first, [59]);
    await sequence.feed(ids(2, 20), () => {});
    sequence.close(done);
    const before = totals();
    const next = [...first, ...ids(3, 30)];
    const [again, seen] = await read(engine, next, [59, 89]);
    expect(totals()).toEqual({ reused: before.reused + 60, prefilled: before.prefilled + 30 });
    expectSame(seen, await atOnce(next));
    again.close(done);
  });

  test("runs again from the first position that was not read before", async () => {
    const tokens = ids(4, 50);
    (await read(engine, tokens, [49]))[0].close(done);
    const before = totals();
    const [again, seen] = await read(engine, tokens, [30, 49]);
    expect(totals()).toEqual({ reused: before.reused + 30, prefilled: before.prefilled + 20 });
    expectSame(seen, await atOnce(tokens));
    again.close(done);
  });

  test("that is the same needs no step at all", async () => {
    const tokens = ids(5, 40);
    (await read(engine, tokens, [39]))[0].close(done);
    const before = totals();
    const [again, seen] = await read(engine, tokens, [39]);
    expect(totals()).toEqual({ reused: before.reused + 40, prefilled: before.prefilled });
    expectSame(seen, await atOnce(tokens));
    const response: Seen = new Map();
    await again.feed(ids(6, 5), recorder(response));
    expectSame(response, await atOnce([...tokens, ...ids(6, 5)]));
    again.close(done);
  });

  test("of another key reads all of it, though it is the same", async () => {
    const tokens = ids(7, 48);
    (await read(engine, tokens, [47], "one tenant"))[0].close(done);
    const before = totals();
    const [again] = await read(engine, tokens, [47], "another tenant");
    expect(totals()).toEqual({ reused: before.reused, prefilled: before.prefilled + 48 });
    again.close(done);
  });

  test("of another key does so too while the first is open, while it reads, and in its very slot", async () => {
    const tokens = ids(20, 48);
    let before = totals();
    const apart = [
      await read(engine, tokens, [47], "one tenant"),
      await read(engine, tokens, [47], "another"),
    ];
    expect(totals()).toEqual({ reused: before.reused, prefilled: before.prefilled + 96 });
    for (const [sequence] of apart) sequence.close(done);
    before = totals();
    const together = await Promise.all(["a", "b"].map((key) => read(engine, ids(21, 60), [59], key)));
    expect(totals()).toEqual({ reused: before.reused, prefilled: before.prefilled + 120 });
    for (const [sequence] of together) sequence.close(done);
    const single = await warm(1);
    for (const key of ["one tenant", "another"]) (await read(single, tokens, [47], key))[0].close(done);
    expect(totalsOf(single)).toEqual({ reused: 0, prefilled: 96 });
    await single.close();
  });

  test("copies what another holds that is still open, and both go on as if alone", async () => {
    const shared = ids(8, 64);
    const [one] = await read(engine, shared, [63]);
    await one.feed(ids(9, 12), () => {});
    const before = totals();
    const [two, seen] = await read(engine, [...shared, ...ids(10, 16)], [63, 79]);
    expect(totals().reused).toBe(before.reused + 64);
    expectSame(seen, await atOnce([...shared, ...ids(10, 16)]));
    const [more, other]: [Seen, Seen] = [new Map(), new Map()];
    await Promise.all([one.feed(ids(11, 9), recorder(more)), two.feed(ids(12, 9), recorder(other))]);
    expectSame(more, await atOnce([...shared, ...ids(9, 12), ...ids(11, 9)]));
    expectSame(other, await atOnce([...shared, ...ids(10, 16), ...ids(12, 9)]));
    for (const sequence of [one, two]) sequence.close(done);
  });

  test("waits for one that is reading the same, so that many at once read it once", async () => {
    const shared = ids(13, 120);
    const before = totals();
    const opened = await Promise.all(
      [14, 15, 16, 17].map((seed) => read(engine, [...shared, seed], [119, 120])),
    );
    expect(totals()).toEqual({ reused: before.reused + 3 * 120, prefilled: before.prefilled + 120 + 4 });
    for (const [i, [sequence, seen]] of opened.entries()) {
      expectSame(seen, await atOnce([...shared, 14 + i]));
      sequence.close(done);
    }
  });

  test("goes on by itself when the one it waits for is closed", async () => {
    const shared = ids(18, 120);
    const leader = engine.open("");
    const lost = leader.feed(shared, () => {}, 0, [119]);
    const following = read(engine, shared, [119]);
    await new Promise(setImmediate);
    leader.close(done);
    await expect(lost).rejects.toBe(done);
    const [sequence, seen] = await following;
    expectSame(seen, await atOnce(shared));
    sequence.close(done);
  });

  test("does not wait for one that was opened and never fed", async () => {
    const shared = ids(19, 90);
    const silent = engine.open("");
    const [sequence] = await read(engine, shared, [89]);
    for (const one of [silent, sequence]) one.close(done);
  });

  test("gets nothing from one that failed", async () => {
    const tokens = ids(20, 70);
    const [sequence] = await read(engine, tokens, [69]);
    sequence.close(new NumericError("LOGITS_NOT_FINITE", "poisoned"));
    const before = totals();
    const [again] = await read(engine, tokens, [69]);
    expect(totals().reused).toBe(before.reused);
    again.close(done);
  });
});

test("strangers that step beside a warm slot leave it as it was", async () => {
  const engine = await warm(3);
  const kept = ids(1, 50);
  const [low, middle, high] = await Promise.all([
    read(engine, ids(2, 20), [19]),
    read(engine, kept, [49]),
    read(engine, ids(3, 20), [19]),
  ]);
  middle[0].close(done);
  // Rows around the warm one step together, and it idles in their batch.
  for (let i = 0; i < 8; i++) {
    await Promise.all([low, high].map(([sequence]) => sequence.feed([i + 40], () => {})));
  }
  const [again, seen] = await read(engine, [...kept, 7, 8, 9], [49, 52]);
  expect(totalsOf(engine).reused).toBe(50);
  expectSame(seen, await atOnce([...kept, 7, 8, 9]));
  for (const [sequence] of [low, high]) sequence.close(done);
  again.close(done);
  await engine.close();
});

test("with prefixCache false nothing is kept", async () => {
  const engine = await warm(2, { prefixCache: false });
  const tokens = ids(1, 50);
  for (let i = 0; i < 2; i++) (await read(engine, tokens, [49]))[0].close(done);
  expect(totalsOf(engine)).toEqual({ reused: 0, prefilled: 100 });
  await engine.close();
});

test("what is no number of tokens is refused", async () => {
  const load = warm(1, { prefixCache: { maxTokens: -1 } });
  await expect(load).rejects.toMatchObject({ code: "OPTION_INVALID" });
});

test("one that is fed while another's beginning is copied begins as any other, and nothing of either is lost", async () => {
  const engine = await warm(3);
  const [open] = await read(engine, ids(30, 180), [179]);
  const left = [31, 35].map((seed) => ids(seed, 60));
  const before = await Promise.all(left.map((tokens) => read(engine, tokens, [59])));
  for (const [sequence] of before) sequence.close(done);
  // Sits in the slot that is still warm, and is fed in the middle of the copy.
  const later = engine.open("");
  // Nothing of it is left to run: a step after the copy would be the other one's.
  const tokens = ids(30, 180);
  const other = ids(32, 90);
  const seen: Seen = new Map();
  let fed: Promise<void> | undefined;
  const copied = whileCopying(async () => {
    fed ??= later.feed(other, recorder(seen), 0, [89]);
    await new Promise(setImmediate);
  });
  const [sequence, found] = await read(engine, tokens, [179]);
  await fed;
  copied.mockRestore();
  expectSame(found, await atOnce(tokens));
  expect([...seen.keys()]).toEqual([89]);
  expectSame(seen, await atOnce(other));
  const more: Seen = new Map();
  await later.feed(ids(33, 10), recorder(more));
  expectSame(more, await atOnce([...other, ...ids(33, 10)]));
  for (const one of [open, later, sequence]) one.close(done);
  for (const tokens of left) {
    const [again, values] = await read(engine, [...tokens, 1], [60]);
    expectSame(values, await atOnce([...tokens, 1]));
    again.close(done);
  }
  await engine.close();
});

test("two that return at once get their own slots back, in whatever order they sit down", async () => {
  const engine = await warm(2);
  const [a, b] = [ids(40, 70), ids(41, 80)];
  const [first, second] = await Promise.all([read(engine, a, [69]), read(engine, b, [79])]);
  for (const [sequence] of [first, second]) sequence.close(done);
  const before = totalsOf(engine);
  const again = await Promise.all([read(engine, [...b, 1], [79, 80]), read(engine, [...a, 2], [69, 70])]);
  expect(totalsOf(engine)).toEqual({ reused: before.reused + 150, prefilled: before.prefilled + 2 });
  expectSame(again[0][1], await atOnce([...b, 1]));
  expectSame(again[1][1], await atOnce([...a, 2]));
  await engine.close();
});

test("one that is closed before it has run leaves its slot as warm as it was", async () => {
  const engine = await warm(1);
  const tokens = ids(50, 60);
  (await read(engine, tokens, [59]))[0].close(done);
  const opened = engine.open("");
  opened.feed([...tokens, 3], () => {}, 0, [59]).catch(() => {});
  opened.close(done);
  const before = totalsOf(engine);
  const [again] = await read(engine, tokens, [59]);
  expect(totalsOf(engine).reused).toBe(before.reused + 60);
  again.close(done);
  await engine.close();
});

test("what a sequence failed of as its numbers went wrong is not handed to others that begin alike", async () => {
  const engine = await warm(3);
  const tokens = ids(51, 60);
  const [one] = await read(engine, tokens, [59]);
  const [two] = await read(engine, [...tokens, 4], [60]);
  one.close(done);
  two.close(new NumericError("LOGITS_NOT_FINITE", "poisoned"));
  const before = totalsOf(engine);
  const [again] = await read(engine, tokens, [59]);
  expect(totalsOf(engine).reused).toBe(before.reused);
  again.close(done);
  await engine.close();
});

test("a copy that fails closes its sequence alone, with the device's error", async () => {
  const engine = await warm(2);
  const shared = ids(52, 60);
  const [one] = await read(engine, shared, [59]);
  const copyRows = vi.spyOn(engine.session.device, "copyRows").mockImplementation(() => {
    throw new DeviceError("CUDA_ERROR", "no copy");
  });
  await expect(read(engine, [...shared, 1], [60])).rejects.toMatchObject({ code: "CUDA_ERROR" });
  copyRows.mockRestore();
  const seen: Seen = new Map();
  await one.feed([1, 2, 3], recorder(seen));
  expectSame(seen, await atOnce([...shared, 1, 2, 3]));
  one.close(done);
  await engine.close();
});

test("tokens of others are run between the copies of those who begin alike", async () => {
  const engine = await warm(6);
  const shared = ids(53, 200);
  const [open] = await read(engine, shared, [199]);
  const stranger = engine.open("another tenant");
  await stranger.feed(ids(54, 20), () => {});
  const order: string[] = [];
  const copied = whileCopying(async () => {
    order.push("copy");
  });
  const token = stranger.feed([7], () => order.push("token"));
  await Promise.all([token, ...[1, 2].map((last) => read(engine, [...shared, last], [200]))]);
  copied.mockRestore();
  expect(order).toEqual(["copy", "token", "copy"]);
  for (const one of [open, stranger]) one.close(done);
  await engine.close();
});

/** Has something happen at the beginning of each copy. */
function whileCopying(happens: () => Promise<void>) {
  const { copy } = KvCache.prototype;
  return vi.spyOn(KvCache.prototype, "copy").mockImplementation(async function (this: KvCache, ...args) {
    await happens();
    return copy.apply(this, args);
  });
}

/** Conversations that share beginnings: each is a path through a small tree of pieces. */
const conversation = fc
  .array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 4 })
  .map((path) => path.flatMap((branch, depth) => ids(31 * depth + branch + 1, 14 + 9 * branch)));

const action = fc.record({
  tokens: conversation,
  key: fc.constantFrom("", "", "b"),
  response: fc.integer({ min: 0, max: 12 }),
  rollback: fc.integer({ min: 0, max: 6 }),
  /** Closed at once, later, or left open till the end. */
  end: fc.constantFrom("at once", "after", "late"),
});

test("random conversations with closes, rollbacks, batches and evictions read what they would read alone", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(action, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 0, max: 300 }),
      async (rounds, maxTokens) => {
        const engine = await warm(3, { prefixCache: maxTokens < 20 ? false : { maxTokens } });
        const late: Sequence[] = [];
        try {
          for (const round of rounds) await Promise.all(round.map((one) => play(engine, one, late)));
        } finally {
          await engine.close();
        }
      },
    ),
    { numRuns: RUNS },
  );
});

async function play(
  engine: Engine,
  { tokens, key, response, rollback, end }: typeof action extends fc.Arbitrary<infer T> ? T : never,
  late: Sequence[],
): Promise<void> {
  const sequence = engine.open(key);
  const reads = [Math.floor(tokens.length / 2), tokens.length - 1];
  const seen: Seen = new Map();
  const fed = sequence.feed(tokens, recorder(seen), 0, reads);
  if (end === "at once") {
    await new Promise(setImmediate);
    sequence.close(done);
    await fed.catch(() => {});
    return;
  }
  await fed;
  const said = ids(tokens.length, response);
  const kept = said.slice(0, Math.max(0, response - rollback));
  const revised = [...kept, ...ids(tokens.length + 7, response - kept.length)];
  await sequence.feed(said, () => {});
  await sequence.feed(revised.slice(kept.length), recorder(seen), tokens.length + kept.length);
  expectSame(seen, await serial(() => atOnce([...tokens, ...revised])));
  if (end === "after") return sequence.close(done);
  // Slots are few: one sequence at most is left open.
  late.shift()?.close(done);
  late.push(sequence);
}

/** The reference runs one at a time: it has a single slot. */
let last: Promise<unknown> = Promise.resolve();
function serial<T>(work: () => Promise<T>): Promise<T> {
  const result = last.then(work);
  last = result.catch(() => {});
  return result;
}
