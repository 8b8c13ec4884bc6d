import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { exportGenerator } from "../../bench/generator/export.js";
import { addGreedyHead } from "../../bench/generator/greedy-head.js";
import { nextId } from "../../bench/generator/qwen3.js";
import { RandomWeights } from "../../bench/generator/random-weights.js";
import { qwen3Shape } from "../../bench/generator/shapes.js";
import { tiny } from "../../scripts/checkpoint/presets.js";
import { Engine } from "../../src/engine/engine.js";
import { ClosedError } from "../../src/errors.js";
import { DenseWeights } from "../../src/export/formats/dense.js";
import { writeModel } from "../../src/export/writer.js";
import { loadGuard } from "../../src/guard.js";
import { parseConfig } from "../../src/model/config.js";
import { Graph } from "../../src/onnx/graph.js";
import { Binding } from "../../src/runtime/binding.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import { Session } from "../../src/runtime/session.js";
import { Tensor } from "../../src/runtime/tensor.js";
import { DEFAULT_MODEL } from "../support/model.js";

const dir = await mkdtemp(join(tmpdir(), "generator-"));
afterAll(() => rm(dir, { recursive: true }));

describe("greedy head", () => {
  it.each([512, 96, 517])("chooses the likeliest of %i tokens at the last position", async (vocabSize) => {
    const hiddenSize = 8;
    const config = parseConfig({ ...tiny, vocab_size: vocabSize, hidden_size: hiddenSize }, "tiny");
    const source = new RandomWeights(config);
    const graph = new Graph();
    graph.input("hidden", "float32", ["batch", "length", hiddenSize]);
    const weights = new DenseWeights(source, "float32");
    addGreedyHead(graph, source, "hidden", {
      weights,
      headWeights: weights,
      target: { activation: "float32", fusedQkNorm: false },
    });
    const head = await mkdtemp(join(dir, "head-"));
    await writeModel(head, graph, { name: "test", version: "" });
    const session = await Session.load(join(head, "model.onnx"), { threads: 1 });

    const [batch, length] = [3, 2];
    const input = cpu.allocate(batch * length * hiddenSize * 4);
    const output = cpu.allocate(batch * 4);
    const hidden = new Float32Array(input.view());
    for (let i = 0; i < hidden.length; i++) hidden[i] = Math.sin(i * 12.9898);
    const binding = new Binding(session);
    binding.input("hidden", Tensor.view(input, 0, "float32", [batch, length, hiddenSize]));
    binding.output("next_id", Tensor.view(output, 0, "float32", [batch, 1, 1]));
    await binding.run();

    const rows: Float32Array[] = [];
    for await (const { data } of source.rows("model.embed_tokens.weight", 1)) rows.push(data);
    for (let b = 0; b < batch; b++) {
      const last = hidden.subarray(
        (b * length + length - 1) * hiddenSize,
        (b * length + length) * hiddenSize,
      );
      const scores = rows.map((row) => row.reduce((sum, w, i) => sum + w * last[i], 0));
      expect(new Float32Array(output.view())[b]).toBe(scores.indexOf(Math.max(...scores)));
    }
  });
});

describe("a generator in the engine", () => {
  it.each(["fp32", "w8a8"] as const)("goes on as if all had been the prompt (%s)", async (dtype) => {
    const out = join(dir, dtype);
    // Tied random embeddings would give the same token for ever.
    const config = parseConfig({ ...tiny, tie_word_embeddings: false }, "tiny");
    await exportGenerator(new RandomWeights(config), out, { dtype, device: "cpu" });
    const engine = await Engine.load(out, { threads: 1, maxTokens: 400, maxStreams: 3 });
    const prompt = Array.from({ length: 300 }, (_, i) => (i * 37) % 512);
    const first = engine.open();
    const response = [await nextId(first, prompt)];
    for (let i = 0; i < 12; i++) response.push(await nextId(first, response.slice(-1)));
    expect(new Set(response).size).toBeGreaterThan(1);
    if (dtype === "fp32") {
      for (const known of [1, 5, 12]) {
        expect(await once(engine, [...prompt, ...response.slice(0, known)])).toBe(response[known]);
      }
    }
    expect(await once(engine, prompt)).toBe(response[0]);
    await expect(once(engine, prompt.concat(prompt))).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
    await engine.close();
  });

  it("gives each stream of a batch the token after its own last", async () => {
    const out = join(dir, "batch");
    const config = parseConfig({ ...tiny, tie_word_embeddings: false }, "tiny");
    await exportGenerator(new RandomWeights(config), out, { dtype: "fp32", device: "cpu" });
    const engine = await Engine.load(out, { threads: 1, maxTokens: 64, maxStreams: 4 });
    const prompts = [3, 5, 7, 11].map((step) => Array.from({ length: 9 }, (_, i) => (i * step * 41) % 512));
    const alone: number[][] = [];
    for (const prompt of prompts) {
      const ids = [await once(engine, prompt)];
      ids.push(await once(engine, [...prompt, ...ids]));
      alone.push(ids);
    }
    expect(new Set(alone.flat()).size).toBeGreaterThan(1);
    const sequences = prompts.map(() => engine.open());
    await Promise.all(sequences.map((sequence, i) => nextId(sequence, prompts[i])));
    const together = await Promise.all(sequences.map((sequence, i) => nextId(sequence, [alone[i][0]])));
    expect(together).toEqual(alone.map((ids) => ids[1]));
    await engine.close();
  });

  it("is not taken for a guard", async () => {
    const out = join(dir, "no-guard");
    const config = parseConfig({ ...tiny, vocab_size: 8192 }, "tiny");
    await exportGenerator(new RandomWeights(config), out, { dtype: "fp32", device: "cpu" });
    for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
      await copyFile(join(DEFAULT_MODEL, file), join(out, file));
    }
    await expect(loadGuard(out)).rejects.toMatchObject({
      code: "MODEL_INVALID",
      message: expect.stringContaining("next_id [1]"),
    });
  });

  async function once(engine: Engine, ids: number[]): Promise<number> {
    const sequence = engine.open();
    try {
      return await nextId(sequence, ids);
    } finally {
      sequence.close(new ClosedError("STREAM_CLOSED", "done"));
    }
  }
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
