import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { genTiny, type RawConfig, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { exportCheckpoint } from "../../src/export/export.js";
import type { Dtype } from "../../src/model/manifest.js";
import { temporaryFolder } from "./model.js";

export const GEN_TEMPLATE = fileURLToPath(
  new URL("../../scripts/checkpoint/gen-chat-template.jinja", import.meta.url),
);

/** A random Gen guard, as a checkpoint and exported. */
export async function randomGen(
  config: Partial<RawConfig> = genTiny,
  dtype: Dtype = "fp32",
): Promise<{ checkpointDir: string; modelDir: string }> {
  const dir = await temporaryFolder();
  const checkpointDir = join(dir, "checkpoint");
  const modelDir = join(dir, "model");
  await writeRandomCheckpoint(checkpointDir, { config, dtype: "BF16" });
  await exportCheckpoint(checkpointDir, modelDir, { dtype });
  return { checkpointDir, modelDir };
}

export const genTemplate = () => readFile(GEN_TEMPLATE, "utf8");
