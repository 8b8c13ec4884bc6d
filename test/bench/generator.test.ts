import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { exportGenerator } from "../../bench/generator/export.js";
import { addGreedyHead } from "../../bench/generator/greedy-head.js";
import { RandomWeights } from "../../bench/generator/random-weights.js";
import { qwen3Shape } from "../../bench/generator/shapes.js";
import { TokenLoop } from "../../bench/generator/token-loop.js";
import { tiny } from "../../scripts/checkpoint/presets.js";
import { parseConfig } from "../../src/checkpoint/config.js";
import { DenseWeights } from "../../src/export/dense.js";
import { Graph } from "../../src/export/graph.js";
import { writeModel } from "../../src/export/writer.js";
import { Binding } from "../../src/ort/binding.js";
import { Memory } from "../../src/ort/memory.js";
import { Session } from "../../src/ort/session.js";
import { Tensor } from "../../src/ort/tensor.js";

const dir = await mkdtemp(join(tmpdir(), "generator-"));
afterAll(() => rm(dir, { recursive: true }));

describe("greedy head", () => {
  it.each([512, 96, 517])("chooses the likeliest of %i tokens at the last position", async (vocabSize) => {
    const hiddenSize = 8;
    const config = parseConfig({ ...tiny, vocab_size: vocabSize, hidden_size: hiddenSize }, "tiny");
    const source = new RandomWeights(config);
    const graph = new Graph();
    graph.input("hidden", "float32", ["batch", "length", hiddenSize]);
    addGreedyHead(graph, source, new DenseWeights(source, "float32"), "hidden");
    const head = await mkdtemp(join(dir, "head-"));
    await writeModel(head, graph, { name: "test", version: "" });
    const session = await Session.load(join(head, "model.onnx"), { threads: 1 });

    const [batch, length] = [3, 2];
    const input = Memory.allocate(batch * length * hiddenSize * 4);
    const output = Memory.allocate(batch * 8);
    const hidden = new Float32Array(input.view());
    for (let i = 0; i < hidden.length; i++) hidden[i] = Math.sin(i * 12.9898);
    const binding = new Binding(session);
    binding.input("hidden", Tensor.view(input, 0, "float32", [batch, length, hiddenSize]));
    binding.output("next_id", Tensor.view(output, 0, "int64", [batch, 1]));
    await binding.run();

    const rows: Float32Array[] = [];
    for await (const { data } of source.rows("model.embed_tokens.weight", 1)) rows.push(data);
    for (let b = 0; b < batch; b++) {
      const last = hidden.subarray(
        (b * length + length - 1) * hiddenSize,
        (b * length + length) * hiddenSize,
      );
      const scores = rows.map((row) => row.reduce((sum, w, i) => sum + w * last[i], 0));
      expect(Number(new BigInt64Array(output.view())[b])).toBe(scores.indexOf(Math.max(...scores)));
    }
  });
});

describe("token loop", () => {
  it.each(["fp32", "w8a8"] as const)("goes on as if all had been the prompt (%s)", async (dtype) => {
    const out = join(dir, dtype);
    // Tied random embeddings would give the same token for ever.
    const config = parseConfig({ ...tiny, tie_word_embeddings: false }, "tiny");
    await exportGenerator(new RandomWeights(config), out, { dtype, device: "cpu" });
    const loop = await TokenLoop.load(out, { threads: 1, maxTokens: 400 });
    const prompt = Array.from({ length: 300 }, (_, i) => (i * 37) % 512);
    const response = [await loop.prefill(prompt)];
    for (let i = 0; i < 12; i++) response.push(await loop.step());
    expect(new Set(response).size).toBeGreaterThan(1);
    if (dtype === "fp32") {
      for (const known of [1, 5, 12]) {
        expect(await loop.prefill([...prompt, ...response.slice(0, known)])).toBe(response[known]);
      }
    }
    expect(await loop.prefill(prompt)).toBe(response[0]);
    for (const id of response.slice(1)) expect(await loop.step()).toBe(id);
    await expect(loop.prefill(prompt.concat(prompt))).rejects.toThrow("more than 400");
    await loop.release();
  });
});

it("has the sizes of Qwen3", () => {
  expect(qwen3Shape("8B")).toMatchObject({
    hiddenSize: 4096,
    layers: 36,
    heads: 32,
    tieWordEmbeddings: false,
  });
  expect(qwen3Shape("1.7B")).toMatchObject({ hiddenSize: 2048, layers: 28, intermediateSize: 6144 });
  expect(() => qwen3Shape("2B")).toThrow("0.6B, 1.7B, 4B, 8B");
});
