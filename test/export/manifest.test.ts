import { cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Engine } from "../../src/engine/engine.js";
import { ModelError } from "../../src/errors.js";
import { readManifest } from "../../src/export/manifest.js";
import { randomModel, temporaryFolder } from "../support/model.js";

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
  expect(Object.keys(files).sort()).toEqual(["model.onnx", "model.onnx.data"]);
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
  ["an older format", "MODEL_TOO_OLD", (dir) => edit(dir, { format: 1, outputs: undefined })],
  ["no outputs", "MODEL_INVALID", (dir) => edit(dir, { outputs: undefined })],
  ["an output that is null", "MODEL_INVALID", (dir) => edit(dir, { outputs: [null] })],
  [
    "an output at an unknown position",
    "MODEL_INVALID",
    (dir) => edit(dir, { outputs: [{ name: "logits", width: 3, position: "asked" }] }),
  ],
  ["a newer format", "MODEL_TOO_NEW", (dir) => edit(dir, { format: 99 })],
  ["no graph", "MODEL_INCOMPLETE", (dir) => rm(join(dir, "model.onnx"))],
  ["no weights", "MODEL_INCOMPLETE", (dir) => rm(join(dir, "model.onnx.data"))],
  ["truncated weights", "MODEL_INCOMPLETE", (dir) => truncate(join(dir, "model.onnx.data"), 70_000)],
  ["a truncated graph", "MODEL_INCOMPLETE", (dir) => truncate(join(dir, "model.onnx"), 100)],
])("%s: %s", async (_, code, damage) => {
  const dir = join(root, `model-${Math.random()}`);
  await cp(model, dir, { recursive: true });
  await damage(dir);
  for (const load of [readManifest, Engine.load]) {
    const error = await load(dir).then(
      () => null,
      (error) => error,
    );
    expect(error).toBeInstanceOf(ModelError);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/\w[.`]+$/);
  }
});

test("a graph of the right size but with other content is not loaded", async () => {
  const dir = join(root, "scrambled");
  await cp(model, dir, { recursive: true });
  const path = join(dir, "model.onnx");
  const bytes = await readFile(path);
  await writeFile(path, bytes.fill(7));
  await expect(Engine.load(dir)).rejects.toMatchObject({ code: "MODEL_NOT_LOADED" });
});

async function edit(dir: string, changes: object): Promise<void> {
  const path = join(dir, "guard.json");
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changes }));
}
