import { describe, expect, test } from "vitest";
import { fitInRow, isBetterApart, stepCosts } from "../../src/engine/costs.js";
import type { Manifest } from "../../src/model/manifest.js";
import { cpu } from "../../src/runtime/devices/cpu.js";

const MB = 1e6;

/** Models whose steps were measured, by the bytes of their weights and of a token in their cache. */
const MEASURED = {
  embedded: { weights: 20 * MB, layers: 4, heads: 1, kvCache: "fp32", dtype: "int8" },
  w8a8: { weights: 440 * MB, layers: 28, heads: 8, kvCache: "fp32", dtype: "w8a8" },
  "w8a8-kv8": { weights: 440 * MB, layers: 28, heads: 8, kvCache: "int8", dtype: "w8a8" },
} as const;

function costsOf(name: keyof typeof MEASURED) {
  const { weights, layers, heads, kvCache, dtype } = MEASURED[name];
  const config = { kind: "stream", vocabSize: 0, hiddenSize: 0 };
  const manifest = { files: { "model.onnx.data": weights }, config, kvCache, dtype } as unknown as Manifest;
  const type = kvCache === "int8" ? "int8" : "float32";
  return stepCosts(manifest, { layers, kvHeads: heads, headDim: 128, type, slots: 16, capacity: 2048 }, cpu);
}

describe("fifteen that begin with the same 1,000 tokens and have three each of their own", () => {
  const inOneRow = (name: keyof typeof MEASURED) => fitInRow(costsOf(name), Array(15).fill(3), 1000);

  test("run in one row of a model whose weights stay in the processor's cache: 12 ms against 24", () => {
    expect(inOneRow("embedded")).toEqual(Array(15).fill(true));
  });

  test("run in one row of a cache of floats: 620 ms against 755", () => {
    expect(inOneRow("w8a8")).toEqual(Array(15).fill(true));
  });

  test("are copied over a cache of bytes, a quarter as large and read anew for each token", () => {
    expect(inOneRow("w8a8-kv8")).toEqual(Array(15).fill(false));
  });
});

test("three tokens each of sixteen go in chunks of their own where attention takes longer than the weights", () => {
  const tokens = { held: 1000, count: 3, awaited: () => 3 };
  expect(isBetterApart(costsOf("embedded"), tokens, 16)).toBe(true);
  expect(isBetterApart(costsOf("w8a8"), tokens, 16)).toBe(false);
  expect(isBetterApart(costsOf("w8a8-kv8"), tokens, 16)).toBe(false);
});
