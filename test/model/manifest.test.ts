import { execFileSync } from "node:child_process";
import { cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Engine } from "../../src/engine/engine.js";
import { ModelError } from "../../src/errors.js";
import { requireGuard } from "../../src/model/guard-outputs.js";
import { type Manifest, writeManifest } from "../../src/model/manifest.js";
import { readManifest } from "../../src/model/read-manifest.js";
import { randomModel, reseal, temporaryFolder } from "../support/model.js";

let root: string;
let model: string;

beforeAll(async () => {
  root = await temporaryFolder();
  model = (await randomModel({ config: tiny, dtype: "BF16" })).modelDir;
});

test("a whole model is read", async () => {
  const { config, files, outputs } = await readManifest(model);
  expect(outputs.map(({ name, width, position }) => [name, width, position])).toEqual([
    ["promptRisk", 3, "each"],
    ["promptCategory", 9, "each"],
    ["responseRisk", 3, "each"],
    ["responseCategory", 8, "each"],
  ]);
  expect(config.layers).toBe(tiny.num_hidden_layers);
  expect(config.labels.responseRisk).toEqual(["Safe", "Unsafe", "Controversial"]);
  expect(Object.keys(files).sort()).toEqual([
    ...["branches.onnx", "model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json"],
  ]);
});

test.each<[string, string, (dir: string) => Promise<unknown>]>([
  ["no folder", "MODEL_NOT_FOUND", (dir) => rm(dir, { recursive: true })],
  ["no manifest", "MODEL_NOT_FOUND", (dir) => rm(join(dir, "guard.json"))],
  ["no JSON", "MODEL_INVALID", (dir) => writeFile(join(dir, "guard.json"), '{"format": 1,')],
  ["null", "MODEL_INVALID", (dir) => writeFile(join(dir, "guard.json"), "null")],
  ["no format", "MODEL_INVALID", (dir) => edit(dir, { format: undefined })],
  ["no labels", "MODEL_INVALID", (dir) => edit(dir, { config: undefined })],
  ["null for files", "MODEL_INVALID", (dir) => edit(dir, { files: null })],
  ["no dtype", "MODEL_INVALID", (dir) => edit(dir, { dtype: undefined })],
  ["an unknown dtype", "MODEL_INVALID", (dir) => edit(dir, { dtype: "int3" })],
  ["an unknown cache", "MODEL_INVALID", (dir) => edit(dir, { kvCache: "int3" })],
  ["sums of another format that fit 16 bits", "MODEL_INVALID", (dir) => edit(dir, { sumsFit16Bits: true })],
  ["an older format", "MODEL_TOO_OLD", (dir) => edit(dir, { format: 1, outputs: undefined })],
  ["no outputs", "MODEL_INVALID", (dir) => edit(dir, { outputs: undefined })],
  ["an output that is null", "MODEL_INVALID", (dir) => edit(dir, { outputs: [null] })],
  [
    "an output at an unknown position",
    "MODEL_INVALID",
    (dir) => edit(dir, { outputs: [{ name: "logits", width: 3, position: "asked" }] }),
  ],
  ["labels in another order", "MODEL_INVALID", (dir) => editLabels(dir, ["Unsafe", "Safe", "Controversial"])],
  ["another layout of the same content", "", (dir) => edit(dir, {})],
  ["a pipe in its place", "MODEL_NOT_FOUND", (dir) => pipe(join(dir, "guard.json"))],
  ["a manifest of 9 MB", "MODEL_NOT_FOUND", (dir) => edit(dir, { exporter: "x".repeat(9e6) })],
  ["a pipe for the weights", "MODEL_INCOMPLETE", (dir) => pipe(join(dir, "model.onnx.data"))],
  ["a newer format", "MODEL_TOO_NEW", (dir) => edit(dir, { format: 99 })],
  ["no graph", "MODEL_INCOMPLETE", (dir) => rm(join(dir, "model.onnx"))],
  ["no weights", "MODEL_INCOMPLETE", (dir) => rm(join(dir, "model.onnx.data"))],
  ["truncated weights", "MODEL_INCOMPLETE", (dir) => truncate(join(dir, "model.onnx.data"), 70_000)],
  ["a truncated graph", "MODEL_INCOMPLETE", (dir) => truncate(join(dir, "model.onnx"), 100)],
])("%s: %s", async (_, code, damage) => {
  const dir = join(root, `model-${Math.random()}`);
  await cp(model, dir, { recursive: true });
  await damage(dir);
  for (const load of [readManifest, (dir: string) => Engine.load(dir).then((engine) => engine.close())]) {
    const error = await load(dir).then(
      () => null,
      (error) => error,
    );
    if (code === "") {
      expect(error).toBeNull();
      continue;
    }
    expect(error).toBeInstanceOf(ModelError);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/\w[.`]+$/);
  }
});

test("a graph that is none is not loaded, though guard.json vouches for it", async () => {
  const dir = join(root, "scrambled");
  await cp(model, dir, { recursive: true });
  const path = join(dir, "model.onnx");
  const bytes = await readFile(path);
  await writeFile(path, bytes.fill(7));
  await reseal(dir);
  await expect(Engine.load(dir)).rejects.toMatchObject({ code: "MODEL_NOT_LOADED" });
});

test.each(["model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json"])(
  "a bit of %s that changed is found, wherever it is",
  async (file) => {
    const dir = join(root, `flipped-${file}`);
    await cp(model, dir, { recursive: true });
    const path = join(dir, file);
    const original = await readFile(path);
    for (let i = 0; i < 12; i++) {
      const bytes = Buffer.from(original);
      // Knuth's multiplicative hashing: the same places each time, all over the file.
      bytes[Math.floor((((i * 2654435761) % 2 ** 32) / 2 ** 32) * bytes.length)] ^= 1 << (i % 8);
      await writeFile(path, bytes);
      await expect(Engine.load(dir)).rejects.toMatchObject({ name: "ModelError", code: "MODEL_CHANGED" });
    }
    await writeFile(path, original);
    await (await Engine.load(dir, { maxStreams: 1 })).close();
  },
);

/** What somebody could write who computes the digest as well. */
test.each<[string, (manifest: Manifest) => unknown]>([
  [
    "risk labels of which none is Safe",
    ({ config }) => set(config.labels, { responseRisk: ["A", "B", "C"] }),
  ],
  [
    "risk labels that are all Safe",
    ({ config }) => set(config.labels, { responseRisk: ["Safe", "safe", "SAFE"] }),
  ],
  ["labels that are null", ({ config }) => set(config.labels, { promptRisk: null })],
  ["no labels", ({ config }) => set(config, { labels: undefined })],
  ["a list for a config", (manifest) => set(manifest, { config: [] })],
  ["an unknown entry in the config", ({ config }) => set(config, { thinking: true })],
  ["a million layers", ({ config }) => set(config, { layers: 1e6 })],
  ["a context of 0", ({ config }) => set(config, { maxPositions: 0 })],
  ["a context in quotes", ({ config }) => set(config, { maxPositions: "2048" })],
  ["heads that are cached in another width", (manifest) => set(manifest, { cachedHeadSize: 32 })],
  ["a width of -16", (manifest) => set(manifest, { cachedHeadSize: -16 })],
  ["a cache that the device has no kernels for", (manifest) => set(manifest, { kvCache: "fp16" })],
  ["a format that the device has no kernels for", (manifest) => set(manifest, { dtype: "bf16" })],
  ["no files", (manifest) => set(manifest, { files: {}, hashes: {} })],
  ["no weights among the files", ({ files }) => set(files, { "model.onnx.data": undefined })],
  ["a file of another folder", ({ files }) => set(files, { "../secret": 5 })],
  ["a file of a fractional size", ({ files }) => set(files, { "model.onnx": 1.5 })],
  ["no hash of a file", ({ hashes }) => set(hashes, { "model.onnx": undefined })],
  ["a hash that is none", ({ hashes }) => set(hashes, { "model.onnx": "abc" })],
  ["sources that are null", (manifest) => set(manifest, { sources: null })],
  ["an output twice", ({ outputs }) => outputs.push(outputs[0])],
  ["an output of last tokens, and not of how many", ({ outputs }) => set(outputs[0], { position: "tail" })],
  ["an output of a million last tokens", ({ outputs }) => set(outputs[0], { position: "tail", tail: 1e6 })],
  ["that runs ask for an output of each token", ({ outputs }) => set(outputs[0], { asked: true })],
  [
    "that runs perhaps ask for an output",
    ({ outputs }) => {
      for (const output of outputs) set(output, { position: "tail", tail: 4, asked: "perhaps" });
    },
  ],
  ["a number of last tokens where each has one", ({ outputs }) => set(outputs[0], { tail: 2 })],
  [
    "outputs of different numbers of last tokens",
    ({ outputs }) => {
      set(outputs[0], { position: "tail", tail: 4 });
      set(outputs[1], { position: "last" });
    },
  ],
  ["a self-test that is null", (manifest) => set(manifest, { selfTest: null })],
  ["a self-test without tokens", ({ selfTest }) => set(selfTest!, { ids: [], runs: [] })],
  ["a self-test of tokens that the model has not", ({ selfTest }) => selfTest!.ids.fill(512)],
  ["a self-test of too few runs", ({ selfTest }) => set(selfTest!, { runs: [1] })],
  ["a self-test without logits", ({ selfTest }) => set(selfTest!, { logits: {} })],
  [
    "a self-test whose logits are NaN",
    ({ selfTest }) => {
      selfTest!.logits.promptRisk = Buffer.alloc(50 * 3 * 4, 255).toString("base64");
    },
  ],
])("refused whatever the digest says: %s", async (_, change) => {
  const dir = join(root, `sealed-${Math.random()}`);
  await cp(model, dir, { recursive: true });
  const manifest = await readManifest(dir);
  change(manifest);
  await writeManifest(dir, manifest);
  for (const load of [readManifest, Engine.load]) {
    await expect(load(dir)).rejects.toMatchObject({ name: "ModelError", code: "MODEL_INVALID" });
  }
});

test("what a guard must have beyond that: logits for its labels, a self-test, a tokenizer", async () => {
  const whole = await readManifest(model);
  expect(() => requireGuard(whole, model)).not.toThrow();
  const { "tokenizer.json": _, ...files } = whole.files;
  for (const lacking of [{ selfTest: undefined }, { outputs: whole.outputs.slice(1) }, { files }]) {
    expect(() => requireGuard({ ...whole, ...lacking }, model)).toThrow(
      expect.objectContaining({ code: "MODEL_INVALID" }),
    );
  }
});

function set(target: object, changes: object): void {
  Object.assign(target, changes);
}

async function editLabels(dir: string, responseRisk: string[]): Promise<void> {
  const { config } = await readManifest(dir);
  await edit(dir, { config: { ...config, labels: { ...config.labels, responseRisk } } });
}

async function pipe(path: string): Promise<void> {
  await rm(path);
  execFileSync("mkfifo", [path]);
}

async function edit(dir: string, changes: object): Promise<void> {
  const path = join(dir, "guard.json");
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changes }));
}
