import { expect, test } from "vitest";
import type { Batch, BatchRunner } from "../../src/engine/batch.js";
import type { KvCache } from "../../src/engine/cache.js";
import { GuestRuns } from "../../src/engine/guest-runs.js";
import { NearbyRows } from "../../src/engine/rows.js";
import { Scheduler, type SchedulerOptions } from "../../src/engine/scheduler.js";
import { Sequence } from "../../src/engine/sequence.js";
import type { Manifest } from "../../src/model/manifest.js";

const limits = { maxTokens: 4096, vocabSize: 1000, outputs: [] };
const SLOTS = 8;

/** A scheduler whose steps only say which sequences ran how many tokens each. */
function steps(options: Partial<SchedulerOptions> = {}) {
  const taken: string[] = [];
  const asked: (number | undefined)[] = [];
  const sequences: Sequence[] = [];
  const run = async (batch: Batch) => {
    const { rows, active, length } = batch;
    const who = rows.flatMap((row, i) => (active[i] ? [sequences.indexOf(row as Sequence)] : []));
    taken.push(`${who.join("+")}: ${length}`);
    asked.push(batch.asked);
    return {};
  };
  const cache = { shape: { slots: SLOTS } } as KvCache;
  const chunks = { sharedChunk: 32, loneChunk: 128, fewTokens: 1 };
  const runner = { run, asks: true } as unknown as BatchRunner;
  const scheduler = new Scheduler(runner, new GuestRuns(runner, {} as Manifest), cache, {
    maxWaiting: 8,
    rows: new NearbyRows(SLOTS),
    keptTokens: 0,
    ...chunks,
    ...options,
  });
  const open = () => {
    const sequence = new Sequence(limits, scheduler);
    scheduler.admit(sequence);
    sequences.push(sequence);
    return sequence;
  };
  const feed = (sequence: Sequence, count: number, reads: number[] | null = null) =>
    sequence.feed(new Array(count).fill(1), () => {}, sequence.end, reads);
  /** What runs from now on, until all of some feeds are done. */
  const ran = async (feeds: Promise<void>[]) => {
    taken.length = 0;
    asked.length = 0;
    await Promise.all(feeds);
    return taken;
  };
  return { open, feed, ran, asked };
}

/** Sequences behind so many tokens. */
async function behind(count: number, tokens: number, options: Partial<SchedulerOptions> = {}) {
  const all = steps(options);
  const sequences = Array.from({ length: count }, () => all.open());
  await all.ran(sequences.map((sequence) => all.feed(sequence, tokens)));
  return { ...all, sequences };
}

test("few tokens of several sequences go one by one in steps that all share", async () => {
  const { sequences, feed, ran } = await behind(4, 100, { weightTokens: 10_000 });
  expect(await ran(sequences.map((one) => feed(one, 3)))).toEqual(["0+1+2+3: 1", "0+1+2+3: 1", "0+1+2+3: 1"]);
});

test("behind a cache as large as the weights they go in a chunk each, which reads it once", async () => {
  const { sequences, feed, ran } = await behind(4, 100, { weightTokens: 100 });
  const found = await ran(sequences.map((one) => feed(one, 3)));
  expect(found.sort()).toEqual(["0: 3", "1: 3", "2: 3", "3: 3"]);
});

test("what is judged comes first: of a prompt's end the tokens behind its last turn run when all prompts are judged", async () => {
  const { sequences, feed, ran } = await behind(4, 100, { weightTokens: 10_000 });
  const found = await ran(sequences.map((one) => feed(one, 9, [102])));
  expect(found.slice(0, 3)).toEqual(["0+1+2+3: 1", "0+1+2+3: 1", "0+1+2+3: 1"]);
  expect(found.slice(3).sort()).toEqual(["0: 6", "1: 6", "2: 6", "3: 6"]);
});

test("a short prompt passes by a long one, which keeps coming on", async () => {
  const { open, feed, ran } = steps();
  const [long, short] = [open(), open()];
  const found = await ran([feed(long, 640), feed(short, 128)]);
  expect(found.indexOf("1: 128")).toBeLessThan(2);
  expect(found.filter((step) => step === "0: 128")).toHaveLength(5);
});

test("a long prompt is read however many short ones come", async () => {
  const { open, feed, ran } = steps();
  const [long, short] = [open(), open()];
  let done = false;
  const more = async () => {
    while (!done) await feed(short, 20);
  };
  const reading = feed(long, 384).then(() => {
    done = true;
  });
  const found = await ran([reading, more()]);
  expect(found.filter((step) => step.startsWith("0:"))).toHaveLength(3);
});

test("a few tokens over a chunk go along with it; more are a chunk of their own", async () => {
  const { open, feed, ran } = steps({ leftover: 16 });
  const one = open();
  expect(await ran([feed(one, 144)])).toEqual(["0: 144"]);
  expect(await ran([feed(one, 145)])).toEqual(["0: 128", "0: 17"]);
  expect(await ran([feed(one, 270)])).toEqual(["0: 128", "0: 142"]);
});

test("while others' tokens keep coming no chunk is longer for what is left over", async () => {
  const { open, feed, ran } = steps({ leftover: 16 });
  const [long, short] = [open(), open()];
  await ran([feed(short, 1)]);
  expect(await ran([feed(long, 68)])).toEqual(["0: 32", "0: 32", "0: 4"]);
});

test("a run asks for the last logits that somebody reads: for none of a prompt's beginning", async () => {
  const { open, feed, ran, asked } = steps();
  const one = open();
  await ran([feed(one, 300, [290, 299])]);
  expect(asked).toEqual([0, 0, 10]);
  await ran([feed(one, 3), feed(one, 2, [])]);
  expect(asked).toEqual([5]);
  await ran([feed(one, 4, [])]);
  expect(asked).toEqual([0]);
});

test("a run of several sequences asks for what the one that reads most does", async () => {
  const { sequences, feed, ran, asked } = await behind(3, 100, { weightTokens: 10_000 });
  await ran([feed(sequences[0], 1, []), feed(sequences[1], 1, []), feed(sequences[2], 1)]);
  expect(asked).toEqual([1]);
  await ran(sequences.map((one) => feed(one, 1, [])));
  expect(asked).toEqual([0]);
});
