import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { odd, tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { referenceLogits } from "../../src/export/reference.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import { readGolden, temporaryFolder } from "../support/model.js";

const CHECKPOINTS = {
  tiny: { config: tiny, dtype: "BF16" },
  odd: { config: odd, dtype: "F16", shards: 2 },
} as const;

describe.each(["tiny", "odd"] as const)("%s", (name) => {
  let dir: string;
  beforeAll(async () => {
    dir = join(await temporaryFolder(), name);
    await writeRandomCheckpoint(dir, CHECKPOINTS[name]);
  });

  test("what a self-test expects is what PyTorch gives", async () => {
    const golden = await readGolden<{ ids: number[]; logits: Record<HeadName, number[][]> }>(name);
    const checkpoint = await Checkpoint.open(dir);
    const layers: number[] = [];
    const logits = await referenceLogits(checkpoint, golden.ids, (done) => layers.push(done));
    await checkpoint.close();
    expect(layers).toEqual(
      Array.from({ length: CHECKPOINTS[name].config.num_hidden_layers }, (_, i) => i + 1),
    );
    for (const head of HEAD_NAMES) {
      const expected = golden.logits[head].flat();
      expect(logits[head].length).toBe(expected.length);
      expected.forEach((x, i) => {
        expect(Math.abs(logits[head][i] - x)).toBeLessThan(1e-4);
      });
    }
  });
});
