import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { ClosedError } from "../../src/errors.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import type { Dtype } from "../../src/model/manifest.js";
import { GOLDEN_CHECKPOINTS, type GoldenName, goldenCheckpoint } from "../support/golden.js";
import { readGolden, temporaryFolder } from "../support/model.js";

type Recorded = Record<HeadName, number[][]>;

/**
 * Largest and mean distance of a logit from PyTorch's in float32 that a format may have on random weights, whose logits
 * have a standard deviation of about 1.5: the measured drift (docs/formats.md), rounded up generously.
 */
const DRIFT: Record<string, { max: number; mean: number }> = {
  int8: { max: 0.2, mean: 0.035 },
  w8a8: { max: 0.25, mean: 0.05 },
  int4: { max: 1.5, mean: 0.3 },
};
/** What a token's neighbours in a chunk or a batch may change: other kernels round differently, nothing more. */
const SHAPE_DRIFT = { max: 0.15, mean: 0.02 };

const cases = Object.keys(GOLDEN_CHECKPOINTS).flatMap((name) =>
  Object.keys(DRIFT).map((dtype) => [name, dtype] as [GoldenName, Dtype]),
);

describe.each(cases)("%s as %s", (name, dtype) => {
  let golden: { ids: number[]; logits: Recorded };
  let engine: Engine;
  let alone: Recorded;

  beforeAll(async () => {
    golden = await readGolden(name);
    const { dir, sources } = await goldenCheckpoint(name);
    const modelDir = join(await temporaryFolder(), "model");
    await exportCheckpoint(dir, modelDir, { dtype, sources });
    engine = await Engine.load(modelDir, { maxStreams: 4, maxTokens: 256 });
    alone = await judge(golden.ids, 1);
  });
  afterAll(() => engine?.close());

  test("stays near the golden logits", () => {
    for (const head of HEAD_NAMES) {
      const { max, mean } = distance(alone[head], golden.logits[head]);
      expect(max, head).toBeLessThan(DRIFT[dtype].max);
      expect(mean, head).toBeLessThan(DRIFT[dtype].mean);
      // Quantized for good: a format that silently kept the floats would be exact.
      expect(max, head).toBeGreaterThan(1e-4);
    }
  });

  test.each([7, 64])("chunks of %i stay near single tokens", async (chunk) => {
    const chunked = await judge(golden.ids, chunk);
    for (const head of HEAD_NAMES) {
      const { max, mean } = distance(chunked[head], alone[head]);
      expect(max, head).toBeLessThan(SHAPE_DRIFT.max);
      expect(mean, head).toBeLessThan(SHAPE_DRIFT.mean);
    }
  });

  test("strangers in the batch do not matter", async () => {
    // One scale for a whole batch would let strangers in: w8a8 has one for each token, and its sums are integers.
    const strangers = [17, 55, 101].map((offset) =>
      judge([...golden.ids.slice(offset), ...golden.ids.slice(0, offset)], 1),
    );
    const [together] = await Promise.all([judge(golden.ids, 1), ...strangers]);
    const tolerance = dtype === "w8a8" ? 1e-5 : SHAPE_DRIFT.max;
    for (const head of HEAD_NAMES) {
      expect(distance(together[head], alone[head]).max, head).toBeLessThan(tolerance);
    }
  });

  async function judge(ids: number[], chunk: number): Promise<Recorded> {
    const sequence: Sequence = engine.open();
    const record: Recorded = { promptRisk: [], promptCategory: [], responseRisk: [], responseCategory: [] };
    for (let at = 0; at < ids.length; at += chunk) {
      await sequence.feed(ids.slice(at, at + chunk), (logits, index, position) => {
        for (const head of HEAD_NAMES) {
          const width = engine.manifest.config.labels[head].length;
          record[head][position] = [...logits[head].subarray(index * width, (index + 1) * width)];
        }
      });
    }
    sequence.close(new ClosedError("STREAM_CLOSED", "done"));
    return record;
  }
});

function distance(a: number[][], b: number[][]): { max: number; mean: number } {
  const distances = a.flatMap((row, i) => row.map((x, j) => Math.abs(x - b[i][j])));
  expect(a.length).toBe(b.length);
  return { max: Math.max(...distances), mean: distances.reduce((sum, d) => sum + d, 0) / distances.length };
}
