import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Builds the package before the first test: some run it as its users do. */
export function setup(): void {
  const compiler = `${ROOT}/node_modules/typescript/bin/tsc`;
  execFileSync(process.execPath, [compiler, "-p", `${ROOT}/tsconfig.build.json`], { stdio: "inherit" });
  for (const script of ["native/gather.mjs", "build-ui.mjs"]) {
    execFileSync(process.execPath, [`${ROOT}/scripts/${script}`], { cwd: ROOT, stdio: "inherit" });
  }
}
