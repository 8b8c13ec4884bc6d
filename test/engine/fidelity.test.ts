import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import type { LogitsReader } from "../../src/engine/logits.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { ClosedError } from "../../src/errors.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import { GOLDEN_CHECKPOINTS, type GoldenName, goldenCheckpoint } from "../support/golden.js";
import { readGolden, temporaryFolder } from "../support/model.js";

/** Written by scripts/golden/logits.py with PyTorch in float32. */
interface Golden {
  sha256: Record<string, string>;
  ids: number[];
  logits: Record<HeadName, number[][]>;
}

type Recorded = Record<HeadName, number[][]>;

const TOLERANCE = 1e-3;

const names = Object.keys(GOLDEN_CHECKPOINTS) as GoldenName[];

describe.each(names)("%s against PyTorch in float32", (name) => {
  let golden: Golden;
  let engine: Engine;
  let sources: Record<string, string>;
  let prefill: Recorded;

  beforeAll(async () => {
    golden = await readGolden(name);
    const checkpoint = await goldenCheckpoint(name);
    sources = checkpoint.sources;
    const modelDir = join(await temporaryFolder(), "model");
    await exportCheckpoint(checkpoint.dir, modelDir, { dtype: "fp32", sources });
    engine = await Engine.load(modelDir, { maxStreams: 6, maxTokens: 256 });
    prefill = await withSequence((sequence) => feedAll(sequence, golden.ids, golden.ids.length));
  });
  afterAll(() => engine?.close());

  test("the checkpoint is the one the golden values were made from", () => {
    expect(sources).toMatchObject(golden.sha256);
  });

  test("logits and labels agree at every position", () => {
    for (const head of HEAD_NAMES) {
      expect(prefill[head].length).toBe(golden.ids.length);
      expect(distance(prefill[head], golden.logits[head]), head).toBeLessThan(TOLERANCE);
      expect(prefill[head].map(argmax), head).toEqual(golden.logits[head].map(argmax));
    }
  });

  test.each([1, 2, 7, 33])("chunks of %i give what one prefill gives", async (chunk) => {
    const recorded = await withSequence((sequence) => feedAll(sequence, golden.ids, chunk));
    expectSame(recorded, prefill);
  });

  test("strangers in the batch change nothing", async () => {
    const strangers = [3, 41, 90].map((offset, index) => {
      const ids = [...golden.ids.slice(offset), ...golden.ids.slice(0, offset)];
      return withSequence((sequence) => feedAll(sequence, ids, index + 1));
    });
    const [recorded] = await Promise.all([
      withSequence((sequence) => feedAll(sequence, golden.ids, 1)),
      ...strangers,
    ]);
    expectSame(recorded, prefill);
  });

  test("rollbacks change nothing", async () => {
    const recorded = await withSequence(async (sequence) => {
      const record = createRecord();
      const read = recorder(record, engine);
      const wrong = golden.ids.map((id) => (id + 1) % engine.manifest.config.vocabSize);
      for (let at = 0; at < golden.ids.length; at += 10) {
        // Ten wrong tokens, then back to where they began.
        await sequence.feed(wrong.slice(at, at + 10), read, at);
        await sequence.feed(golden.ids.slice(at, at + 10), read, at);
      }
      return record;
    });
    expectSame(recorded, prefill);
  });

  async function withSequence<T>(use: (sequence: Sequence) => Promise<T>): Promise<T> {
    const sequence = engine.open();
    try {
      return await use(sequence);
    } finally {
      sequence.close(new ClosedError("STREAM_CLOSED", "done"));
    }
  }

  async function feedAll(sequence: Sequence, ids: number[], chunk: number): Promise<Recorded> {
    const record = createRecord();
    for (let at = 0; at < ids.length; at += chunk) {
      await sequence.feed(ids.slice(at, at + chunk), recorder(record, engine));
    }
    return record;
  }
});

function createRecord(): Recorded {
  return { promptRisk: [], promptCategory: [], responseRisk: [], responseCategory: [] };
}

function recorder(record: Recorded, engine: Engine): LogitsReader {
  const { labels } = engine.manifest.config;
  return (logits, index, position) => {
    for (const head of HEAD_NAMES) {
      const width = labels[head].length;
      record[head][position] = [...logits[head].subarray(index * width, (index + 1) * width)];
    }
  };
}

function expectSame(recorded: Recorded, expected: Recorded): void {
  for (const head of HEAD_NAMES) {
    expect(recorded[head].length).toBe(expected[head].length);
    expect(distance(recorded[head], expected[head]), head).toBeLessThan(TOLERANCE);
    expect(recorded[head].map(argmax), head).toEqual(expected[head].map(argmax));
  }
}

function distance(a: number[][], b: number[][]): number {
  return Math.max(...a.flatMap((row, i) => row.map((x, j) => Math.abs(x - b[i][j]))));
}

function argmax(row: number[]): number {
  return row.indexOf(Math.max(...row));
}
