import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import {
  odd,
  type RandomCheckpoint,
  tiny,
  twoLayers06B,
  writeRandomCheckpoint,
} from "../../scripts/checkpoint/random.js";
import { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { MODEL_CACHE } from "./model.js";

/**
 * Those whose logits PyTorch has written down: scripts/golden/logits.py. The ids of the last are those of a conversation in
 * Qwen3's tokenizer, which nobody needs here any more, and which takes long to load.
 */
export const GOLDEN_CHECKPOINTS = {
  tiny: { config: tiny, dtype: "BF16" },
  odd: { config: odd, dtype: "F16", shards: 2 },
  twoLayers06B: { config: twoLayers06B, dtype: "BF16" },
} as const satisfies Record<string, RandomCheckpoint>;

export type GoldenName = keyof typeof GOLDEN_CHECKPOINTS;

export interface GoldenCheckpoint {
  dir: string;
  /** SHA-256 of its files, as an export takes it. */
  sources: Record<string, string>;
}

/** One of them, which is for reading: the first file that asks writes it, for all others of this run. */
export async function goldenCheckpoint(name: GoldenName): Promise<GoldenCheckpoint> {
  const folder = join(MODEL_CACHE, "golden");
  const dir = join(folder, name);
  const note = join(folder, `${name}.json`);
  await mkdir(folder, { recursive: true });
  for (;;) {
    const text = await readFile(note, "utf8").catch(() => null);
    if (text !== null) return { dir, sources: JSON.parse(text) };
    const first = await mkdir(dir).then(
      () => true,
      () => false,
    );
    if (first) await write(name, dir, note);
    else await setTimeout(50);
  }
}

async function write(name: GoldenName, dir: string, note: string): Promise<void> {
  try {
    await writeRandomCheckpoint(dir, GOLDEN_CHECKPOINTS[name]);
    const checkpoint = await Checkpoint.open(dir);
    const sources = await checkpoint.sha256();
    await checkpoint.close();
    await writeFile(`${note}.new`, JSON.stringify(sources));
    await rename(`${note}.new`, note);
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}
