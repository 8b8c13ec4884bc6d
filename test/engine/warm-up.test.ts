import { afterEach, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Engine } from "../../src/engine/engine.js";
import { ClosedError } from "../../src/errors.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import { Tensor } from "../../src/runtime/tensor.js";
import { randomGen } from "../support/gen.js";
import { randomModel } from "../support/model.js";

const LENGTHS = [4, 8, 16, 32, 64, 128, 256];

afterEach(() => {
  Object.assign(cpu.defaults, { paddedLengths: undefined });
  vi.restoreAllMocks();
});

/** The shapes of token ids that were made for runs, [rows, length]. */
function shapesOf(made: { mock: { calls: Parameters<typeof Tensor.view>[] } }): string[] {
  return made.mock.calls.filter(([, , type]) => type === "int64").map(([, , , dims]) => dims.join(" x "));
}

test("what a device takes long over the first time has run once a guard is loaded, and no prompt needs another shape", async () => {
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  Object.assign(cpu.defaults, { paddedLengths: LENGTHS });
  const made = vi.spyOn(Tensor, "view");
  const told: string[] = [];
  const engine = await Engine.load(modelDir, {
    maxStreams: 4,
    maxTokens: 200,
    onProgress: (stage, done, total) => void told.push(`${stage} ${done} of ${total}`),
  });
  try {
    const chunks = [
      "1 x 128",
      ...LENGTHS.slice(0, -2)
        .reverse()
        .map((length) => `1 x ${length}`),
    ];
    expect(shapesOf(made)).toEqual(expect.arrayContaining([...chunks, "4 x 1", "2 x 1", "1 x 1"]));
    expect(told).toEqual(Array.from({ length: 7 }, (_, done) => `warm ${done} of 6`));
    made.mockClear();
    for (const count of [1, 5, 17, 100, 128, 150]) {
      const sequence = engine.open();
      await sequence.feed(
        Array.from({ length: count }, (_, i) => i),
        () => {},
      );
      sequence.close(new ClosedError("STREAM_CLOSED", "done"));
    }
    expect(shapesOf(made)).toEqual([]);
  } finally {
    await engine.close();
  }
});

test("the CPU, where the first run takes no longer, warms nothing up", async () => {
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  const onProgress = vi.fn();
  const engine = await Engine.load(modelDir, { maxStreams: 1, maxTokens: 64, onProgress });
  await engine.close();
  expect(onProgress).not.toHaveBeenCalled();
});

/** What a Gen guard gives at the positions asked for, by position, and the lengths of its runs. */
async function genLogits(modelDir: string, ids: readonly number[], reads: readonly number[]) {
  const made = vi.spyOn(Tensor, "view");
  const engine = await Engine.load(modelDir, { maxStreams: 2, maxTokens: 300 });
  made.mockClear();
  const found = new Map<number, number[]>();
  const sequence = engine.open("");
  try {
    await sequence.feed(
      ids,
      (logits, _, position, place) => {
        const { outputs } = engine.manifest;
        found.set(
          position,
          outputs.flatMap(({ name, width }) => [
            ...logits[name].subarray(place * width, (place + 1) * width),
          ]),
        );
      },
      0,
      reads,
    );
    const outputs = engine.manifest.outputs.map(({ position }) => position);
    return { found, shapes: shapesOf(made), outputs };
  } finally {
    sequence.close(new ClosedError("STREAM_CLOSED", "done"));
    await engine.close();
    vi.restoreAllMocks();
  }
}

test.each([9, 60, 128, 213])(
  "a Gen guard's prompt of %i tokens runs in chunks of the lengths that are warm, and says the same",
  async (count) => {
    const { modelDir } = await randomGen();
    const ids = Array.from({ length: count }, (_, i) => 3 + ((i * 31) % 200));
    const reads = [count - 4, count - 1];
    const whole = await genLogits(modelDir, ids, reads);
    Object.assign(cpu.defaults, { paddedLengths: LENGTHS });
    const cut = await genLogits(modelDir, ids, reads);
    // An output of the last positions cannot be padded.
    expect(cut.outputs).not.toContain("each");
    for (const shape of cut.shapes) expect(LENGTHS.map((length) => `1 x ${length}`)).toContain(shape);
    expect(cut.found.size).toBe(reads.length);
    for (const position of reads) {
      const expected = whole.found.get(position) as number[];
      cut.found.get(position)?.forEach((value, i) => {
        expect(Math.abs(value - expected[i])).toBeLessThan(1e-4);
      });
    }
  },
);
