import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { convertCheckpoint } from "../../src/calibration/convert-checkpoint.js";
import { Engine } from "../../src/engine/engine.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { type Dtype, WEIGHTS_FILE } from "../../src/model/manifest.js";
import { expectedLogits, logitDistance, tolerance } from "../../src/model/self-test.js";
import { randomModel, reseal, temporaryFolder } from "../support/model.js";

/** A fault in the exporter: rows of a matrix leave it in another order. */
const fault = vi.hoisted(() => ({ rowsTurned: false }));
vi.mock("../../src/export/formats/quantize.js", async (original) => {
  const real = await original<typeof import("../../src/export/formats/quantize.js")>();
  return {
    ...real,
    quantizeRows: (...args: Parameters<typeof real.quantizeRows>) => {
      const quantized = real.quantizeRows(...args);
      return fault.rowsTurned ? { ...quantized, values: quantized.values.reverse() } : quantized;
    },
  };
});

let checkpoint: string;
let original: string;
let dir: string;

beforeAll(async () => {
  ({ checkpointDir: checkpoint, modelDir: original } = await randomModel({ config: tiny, dtype: "BF16" }));
});

beforeEach(async () => {
  dir = join(await temporaryFolder(), "model");
  await cp(original, dir, { recursive: true });
});

const load = async (maxTokens?: number) => (await Engine.load(dir, { maxStreams: 1, maxTokens })).close();

test("a model that says what its checkpoint says is loaded, however little room there is", async () => {
  for (const maxTokens of [undefined, 60, 49, 41, 5, 1]) await load(maxTokens);
});

describe("a model that says something else is not loaded, though all hashes fit", () => {
  test.each<[string, (data: Buffer) => void, RegExp]>([
    ["zeros", (data) => data.fill(0), /promptRisk is 1\.00 away, and 0\.001 is allowed for fp32/],
    ["NaN", (data) => data.fill(255), /not finite/],
    ["weights at half their size", (data) => scale(data, 0.5), /is 0\.\d+ away/],
    ["one percent more", (data) => scale(data, 1.01), /is 0\.0\d+ away/],
    ["weights with their signs turned", (data) => scale(data, -1), /is \d\.\d+ away/],
  ])("weights: %s", async (_, damage, message) => {
    const path = join(dir, WEIGHTS_FILE);
    const data = await readFile(path);
    damage(data);
    await writeFile(path, data);
    await reseal(dir);
    const loaded = load();
    await expect(loaded).rejects.toMatchObject({ name: "ModelError", code: "SELF_TEST_FAILED" });
    await expect(loaded).rejects.toThrow(message);
  });

  test("the weights of another checkpoint", async () => {
    const { modelDir } = await randomModel({ config: tiny, dtype: "BF16", seed: 2 });
    for (const file of ["model.onnx", WEIGHTS_FILE]) await cp(join(modelDir, file), join(dir, file));
    await reseal(dir);
    await expect(load()).rejects.toMatchObject({ code: "SELF_TEST_FAILED" });
  });

  test("another conversation", async () => {
    await reseal(dir, (manifest) => {
      manifest.selfTest!.ids[10] = 200;
      return manifest;
    });
    await expect(load()).rejects.toMatchObject({ code: "SELF_TEST_FAILED" });
  });
});

describe("an export", () => {
  test.each<[Dtype, "fp32" | "int8"]>([
    ["fp32", "fp32"],
    ["int8", "int8"],
    ["w8a8", "int8"],
    ["int4", "int8"],
  ])(
    "as %s with a cache of %s expects the same, and stays well within what is allowed",
    async (dtype, kvCache) => {
      const out = join(await temporaryFolder(), "out");
      const manifest = await convertCheckpoint(checkpoint, out, { dtype, kvCache });
      const reference = JSON.parse(await readFile(join(original, "guard.json"), "utf8"));
      expect(manifest.selfTest).toEqual(reference.selfTest);
      expect(manifest.selfTest!.runs).toEqual([40, 8, 1, 1]);
      await (await Engine.load(out, { maxStreams: 1 })).close();
    },
  );

  test("for a GPU expects the same, without one", async () => {
    const out = join(await temporaryFolder(), "out");
    const manifest = await convertCheckpoint(checkpoint, out, { device: "cuda" });
    const reference = JSON.parse(await readFile(join(original, "guard.json"), "utf8"));
    expect(manifest.selfTest).toEqual(reference.selfTest);
  });

  test("that an exporter's fault made wrong is found and leaves nothing behind", async () => {
    const root = await temporaryFolder();
    fault.rowsTurned = true;
    try {
      await expect(convertCheckpoint(checkpoint, join(root, "out"), { dtype: "w8a8" })).rejects.toMatchObject(
        {
          code: "SELF_TEST_FAILED",
        },
      );
      await expect(
        convertCheckpoint(checkpoint, join(root, "out"), { dtype: "w8a8", verify: true }),
      ).rejects.toMatchObject({ code: "SELF_TEST_FAILED" });
    } finally {
      fault.rowsTurned = false;
    }
    expect(await readdir(root)).toEqual([]);
  });

  test("whose verification fails in any other way leaves nothing behind", async () => {
    const root = await temporaryFolder();
    const verify = () => Promise.reject(new Error("no"));
    await expect(exportCheckpoint(checkpoint, join(root, "out"), { verify })).rejects.toThrow("no");
    expect(await readdir(root)).toEqual([]);
  });

  test("of a context shorter than the conversation tries as much of it as there is room for", async () => {
    const root = await temporaryFolder();
    await writeRandomCheckpoint(join(root, "short"), {
      config: { ...tiny, max_position_embeddings: 43 },
      dtype: "BF16",
    });
    const { selfTest } = await convertCheckpoint(join(root, "short"), join(root, "out"));
    expect(selfTest!.runs).toEqual([40, 3]);
    await (await Engine.load(join(root, "out"))).close();
  });
});

describe("the distance of logits", () => {
  const expected = Float32Array.of(1, 2, 3, 3, 2, 1);
  test.each<[string, Float32Array, number]>([
    ["the same", expected, 0],
    ["a row's common shift, which changes no probability", expected.map((x, i) => x + (i < 3 ? 5 : -1)), 0],
    ["zeros", new Float32Array(6), 1],
    ["the same for every token", Float32Array.of(1, 2, 3, 1, 2, 3), Math.SQRT2],
    ["the opposite", expected.map((x) => -x), 2],
    ["a tenth more", expected.map((x) => 1.1 * x), 0.1],
    ["NaN", expected.map(() => Number.NaN), Number.POSITIVE_INFINITY],
  ])("%s", (_, found, distance) => {
    expect(logitDistance(found, expected, 3)).toBeCloseTo(distance, 5);
  });

  test("from a head that says nothing is endless, unless it is the same", () => {
    expect(logitDistance(new Float32Array(6), new Float32Array(6), 3)).toBe(0);
    expect(logitDistance(expected, new Float32Array(6), 3)).toBe(Number.POSITIVE_INFINITY);
  });

  test("is allowed more where weights and cache have fewer bits", () => {
    const allowed = (["fp32", "int8", "w8a8", "int4"] as const).map((dtype) =>
      tolerance({ dtype, kvCache: "fp32" }),
    );
    expect(allowed).toEqual([...allowed].sort((a, b) => a - b));
    expect(tolerance({ dtype: "fp32", kvCache: "int8" })).toBeGreaterThan(
      tolerance({ dtype: "fp32", kvCache: "fp32" }),
    );
    for (const limit of allowed) expect(limit).toBeLessThan(1);
  });
});

test("logits come back from guard.json as they were", async () => {
  const { selfTest } = JSON.parse(await readFile(join(original, "guard.json"), "utf8"));
  const logits = expectedLogits(selfTest, "responseCategory");
  expect(logits.length).toBe(50 * 8);
  expect(new Set(logits).size).toBeGreaterThan(100);
});

function scale(data: Buffer, factor: number): void {
  const values = new Float32Array(data.buffer, data.byteOffset, Math.floor(data.length / 4));
  values.forEach((value, i) => {
    values[i] = value * factor;
  });
}
