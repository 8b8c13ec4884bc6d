import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

let cache: string;

/** Builds the package before the first test: some run it as its users do. And exports the embedded guard once for all. */
export async function setup(): Promise<void> {
  const compiler = `${ROOT}/node_modules/typescript/bin/tsc`;
  execFileSync(process.execPath, [compiler, "-p", `${ROOT}/tsconfig.build.json`], { stdio: "inherit" });
  for (const script of ["bundle.mjs", "native/gather.mjs", "build-ui.mjs"]) {
    execFileSync(process.execPath, [`${ROOT}/scripts/${script}`], { cwd: ROOT, stdio: "inherit" });
  }
  cache = await mkdtemp(join(tmpdir(), "qwen3guard-test-"));
  // Also for tests that name no cache: nothing is to come from the user's, or go there.
  process.env.QWEN3GUARD_CACHE = process.env.QWEN3GUARD_TEST_CACHE = cache;
  const { resolveModel } = await import(`${ROOT}/build/resolve-model.js`);
  await resolveModel(undefined, { cacheDir: cache });
}

export const teardown = () => rm(cache, { recursive: true, force: true });
