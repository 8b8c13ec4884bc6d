import envPaths from "env-paths";

/** The folder where exports of checkpoints are kept. */
export function modelCache(): string {
  return process.env.QWEN3GUARD_CACHE || envPaths("qwen3guard", { suffix: "" }).cache;
}
