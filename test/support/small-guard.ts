import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { randomModel } from "./model.js";

export const OBSERVE = { action: "observe" };

/**
 * Options of a proxy whose guard is loaded sooner than the embedded one, for what does not depend on verdicts: its own are at
 * random, and nothing is stopped for them.
 */
export async function smallGuard(): Promise<string[]> {
  const { modelDir } = await randomModel({ config: {}, dtype: "BF16" });
  const policy = join(modelDir, "..", "policy.json");
  await writeFile(policy, JSON.stringify(OBSERVE));
  return ["--model", modelDir, "--policy", policy];
}
