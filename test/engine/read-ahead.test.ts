import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Engine } from "../../src/engine/engine.js";
import type { LogitsReader } from "../../src/engine/logits.js";
import { ReadAhead } from "../../src/engine/read-ahead.js";
import { ClosedError } from "../../src/errors.js";
import { randomModel } from "../support/model.js";
import { totalsOf } from "./totals.js";

const done = new ClosedError("STREAM_CLOSED", "done");
const ignore: LogitsReader = () => {};
const ids = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => (i * 37 + seed * 101 + 8) % 512);

let engine: Engine;
let modelDir: string;
beforeAll(async () => {
  ({ modelDir } = await randomModel({ config: tiny, dtype: "BF16" }));
  engine = await Engine.load(modelDir, { maxStreams: 2, maxTokens: 1024 });
});
afterAll(() => engine.close());

const values: LogitsReader = () => {};
const risks = (seen: number[]): LogitsReader => {
  return (logits, index) => seen.push(...logits.promptRisk.slice(index * 3, index * 3 + 3));
};

describe("a sequence in the background", () => {
  test("is closed by the first token of another, which reads what it would have read alone", async () => {
    const [alone, beside]: number[][] = [[], []];
    const stream = engine.open();
    await stream.feed(ids(1, 30), ignore);
    await stream.feed([7, 8], risks(alone));
    const background = engine.openBackground("");
    const read = background.feed(ids(2, 1000), values, 0, [999]);
    const closed = expect(read).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    while (background.length === 0) await new Promise(setImmediate);
    await stream.feed([7, 8], risks(beside), 30);
    await closed;
    beside.forEach((value, i) => {
      expect(Math.abs(value - alone[i])).toBeLessThan(1e-3);
    });
    stream.close(done);
  });

  test("goes on where it had come to when it is opened again", async () => {
    const tokens = ids(3, 1000);
    const first = engine.openBackground("");
    first.feed(tokens, values, 0, [999]).catch(() => {});
    while (first.length < 64) await new Promise(setImmediate);
    const stream = engine.open();
    await stream.feed(ids(4, 3), ignore);
    stream.close(done);
    const before = totalsOf(engine);
    const again = engine.openBackground("");
    await again.feed(tokens, values, 0, [999]);
    again.close(done);
    const after = totalsOf(engine);
    expect(after.reused - before.reused).toBeGreaterThanOrEqual(64);
    expect(after.reused - before.reused + after.prefilled - before.prefilled).toBe(1000);
  });

  test("takes no slot that another waits for, and counts as nobody's", async () => {
    const background = engine.openBackground("");
    background.feed(ids(5, 1000), values, 0, [999]).catch(() => {});
    expect(engine.load).toMatchObject({ active: 0, waiting: 0 });
    const streams = [6, 7].map((seed) => {
      const sequence = engine.open();
      return { sequence, fed: sequence.feed(ids(seed, 4), ignore) };
    });
    await Promise.all(streams.map(({ fed }) => fed));
    expect(background.failure?.code).toBe("STREAM_CLOSED");
    const none = engine.openBackground("");
    await expect(none.feed([1], values, 0, [])).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    for (const { sequence } of streams) sequence.close(done);
  });

  test("that others have read meanwhile runs nothing", async () => {
    const tokens = ids(8, 200);
    const stream = engine.open("");
    await stream.feed(tokens, ignore, 0, [199]);
    const before = totalsOf(engine);
    const late = engine.openBackground("");
    await expect(late.feed(tokens, values, 0, [199])).rejects.toMatchObject({ code: "STREAM_ENDED" });
    expect(totalsOf(engine)).toEqual(before);
    stream.close(done);
  });
});

describe("what is to be read ahead", () => {
  test("is read after a rest, one after the other, and what cannot be prepared is left out", async () => {
    const ahead = new ReadAhead(engine);
    const prepared: number[] = [];
    const job = (seed: number) => async () => {
      prepared.push(seed);
      if (seed === 10) throw new Error("too long");
      return seed === 11 ? null : { ids: ids(seed, 100), reads: [99] };
    };
    const before = totalsOf(engine).prefilled;
    for (const seed of [10, 11]) ahead.add("", job(seed));
    ahead.add("", job(12));
    await expect.poll(() => totalsOf(engine).prefilled - before).toBe(100);
    // There are two slots: the oldest was dropped.
    expect(prepared).toEqual([11, 12]);
    expect(ahead.waiting).toBe(0);
    ahead.close();
  });

  test("is gone on with after others had to be let by", async () => {
    const ahead = new ReadAhead(engine);
    const stream = engine.open();
    await stream.feed(ids(13, 4), ignore);
    ahead.add("", async () => ({ ids: ids(14, 1000), reads: [999] }));
    const before = totalsOf(engine);
    await expect.poll(() => totalsOf(engine).prefilled).toBeGreaterThan(before.prefilled);
    await stream.feed(ids(15, 4), ignore);
    await expect.poll(() => ahead.waiting).toBe(0);
    const after = totalsOf(engine);
    expect(after.reused + after.prefilled - before.reused - before.prefilled).toBeGreaterThanOrEqual(1000);
    const next = engine.open("");
    await next.feed(ids(14, 1000), ignore, 0, [999]);
    expect(totalsOf(engine).reused - after.reused).toBe(1000);
    for (const one of [stream, next]) one.close(done);
    ahead.close();
  });

  test("is dropped when it is closed", async () => {
    const ahead = new ReadAhead(engine);
    const prepare = vi.fn(async () => null);
    ahead.add("", prepare);
    ahead.close();
    ahead.add("", prepare);
    expect(ahead.waiting).toBe(0);
  });
});
