import { afterEach, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Engine } from "../../src/engine/engine.js";
import { ClosedError } from "../../src/errors.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import { Tensor } from "../../src/runtime/tensor.js";
import { randomModel, readGolden } from "../support/model.js";

const LENGTHS = [4, 8, 16, 32, 64, 128, 256];

afterEach(() => {
  (cpu.defaults as { paddedLengths?: readonly number[] }).paddedLengths = undefined;
  vi.restoreAllMocks();
});

test.each([1, 3, 7, 33, 160])(
  "chunks of %i, padded to a few lengths, say what PyTorch says at every position",
  async (chunk) => {
    const golden: { ids: number[]; logits: Record<HeadName, number[][]> } = await readGolden("tiny");
    const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
    Object.assign(cpu.defaults, { paddedLengths: LENGTHS });
    const made = vi.spyOn(Tensor, "view");
    // No room behind the last token: there, a chunk runs as it is.
    const engine = await Engine.load(modelDir, { maxStreams: 2, maxTokens: golden.ids.length });
    const sequence = engine.open();
    try {
      for (let at = 0; at < golden.ids.length; at += chunk) {
        await sequence.feed(golden.ids.slice(at, at + chunk), (logits, index, position) => {
          for (const head of HEAD_NAMES) {
            const expected = golden.logits[head as HeadName][position];
            expected.forEach((value, label) => {
              expect(Math.abs(logits[head][index * expected.length + label] - value)).toBeLessThan(1e-3);
            });
          }
        });
      }
      const lengths = made.mock.calls.filter(([, , type]) => type === "int64").map(([, , , dims]) => dims[1]);
      const ran = Math.min(chunk, 128);
      if (chunk > 1) expect(lengths).toContain(LENGTHS.find((length) => length >= ran));
    } finally {
      sequence.close(new ClosedError("STREAM_CLOSED", "done"));
      await engine.close();
    }
  },
);
