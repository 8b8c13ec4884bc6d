import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RandomWeights } from "../../bench/generator/random-weights.js";
import { tiny } from "../../scripts/checkpoint/presets.js";
import { DenseWeights } from "../../src/export/formats/dense.js";
import { addBackbone } from "../../src/export/qwen3.js";
import { parseConfig } from "../../src/model/config.js";
import { Graph, MICROSOFT } from "../../src/onnx/graph.js";
import { encodeModel, type OnnxTensor } from "../../src/onnx/model.js";

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];
/** Two letters with a space before them: every token is a word. */
const WORDS = LETTERS.flatMap((a) => LETTERS.map((b) => `Ġ${a}${b}`)).slice(0, 500);
const END = "<|endoftext|>";

/**
 * Writes a Qwen3 with random weights as transformers.js lays models out: our own backbone, with the lengths computed
 * from the attention mask, the cache under the names it uses, and the logits as output.
 */
export async function writeTinyTransformersModel(dir: string): Promise<void> {
  const vocabulary = [END, ...LETTERS, "Ġ", ...WORDS];
  const raw = { ...tiny, vocab_size: 512 * Math.ceil(vocabulary.length / 512), tie_word_embeddings: false };
  const source = new RandomWeights(parseConfig(raw, "tiny"));
  const { config } = source;
  const graph = new Graph();
  graph.input("attention_mask", "int64", ["batch", "total"]);
  const count = graph.add("ReduceSum", ["attention_mask", graph.ints("axis", [1])], "count", { keepdims: 0 });
  const last = graph.add("Sub", [count, graph.constant("one", "int64", [], BigInt64Array.of(1n))], "last");
  graph.add("Cast", [last], "seqlens_k", { to: 6 });
  const shape = graph.add("Shape", ["attention_mask"], "mask.shape");
  const index = graph.constant("second", "int64", [], BigInt64Array.of(1n));
  graph.add("Cast", [graph.add("Gather", [shape, index], "total")], "total_sequence_length", { to: 6 });
  const weights = new DenseWeights(source, "float32");
  const hidden = addBackbone(graph, source, {
    weights,
    target: { activation: "float32", fusedQkNorm: false },
    headSize: config.headDim,
    positions: config.maxPositions,
  });
  const head = { tensor: "lm_head.weight", rows: config.vocabSize, columns: config.hiddenSize };
  weights.linear(graph, "logits", hidden, [head]);
  graph.output("logits", "float32", ["batch", "length", config.vocabSize]);
  renameInputs(graph);

  await mkdir(join(dir, "onnx"), { recursive: true });
  await writeFile(join(dir, "onnx", "model.onnx"), await encode(graph));
  const json = (name: string, content: object) => writeFile(join(dir, name), JSON.stringify(content));
  await json("config.json", {
    ...raw,
    architectures: ["Qwen3ForCausalLM"],
  });
  await json("generation_config.json", { eos_token_id: 0, pad_token_id: 0 });
  await json("tokenizer_config.json", { tokenizer_class: "Qwen2Tokenizer", eos_token: END, pad_token: END });
  await json("tokenizer.json", {
    version: "1.0",
    added_tokens: [{ id: 0, content: END, special: true }],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: true },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges: [],
    },
  });
}

/** The whole model in one file. */
async function encode(graph: Graph): Promise<Uint8Array> {
  const tensors: OnnxTensor[] = [];
  for (const { name, type, dims, write } of graph.initializers) {
    const pieces: Buffer[] = [];
    await write(async (bytes) => void pieces.push(Buffer.from(bytes)));
    tensors.push({ name, type, dims, data: Buffer.concat(pieces) });
  }
  const { nodes, inputs, outputs } = graph;
  const opsets = [
    { domain: "", version: 18 },
    { domain: MICROSOFT, version: 1 },
  ];
  return encodeModel({
    producer: "test",
    producerVersion: "",
    opsets,
    graph: { nodes, tensors, inputs, outputs },
  });
}

/** The names that transformers.js feeds; what is computed from the mask is no input any more. */
function renameInputs(graph: Graph): void {
  const named = (name: string) => name.replace(/^past\./, "past_key_values.");
  const inputs = graph.inputs.filter(({ name }) => !/^(seqlens_k|total_sequence_length)$/.test(name));
  const renamed = inputs.map(({ name, type, dims }) => ({
    name: named(name),
    type,
    dims: dims.map((dim) => (dim === "batch" ? "batch_size" : dim)),
  }));
  graph.inputs.splice(0, graph.inputs.length, ...renamed);
  for (const node of graph.nodes) node.inputs = node.inputs.map(named);
}
