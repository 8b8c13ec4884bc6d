import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Builds the package before the first test: some run it as its users do. */
export function setup(): void {
  const compiler = `${ROOT}/node_modules/typescript/bin/tsc`;
  execFileSync(process.execPath, [compiler, "-p", `${ROOT}/tsconfig.build.json`], { stdio: "inherit" });
  execFileSync(process.execPath, [`${ROOT}/scripts/build-ui.mjs`], { cwd: ROOT, stdio: "inherit" });
}
