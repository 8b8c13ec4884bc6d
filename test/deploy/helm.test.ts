import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const CHECK = fileURLToPath(new URL("../../deploy/helm/check.sh", import.meta.url));
/** What deploy/helm/tools.sh brings: `.ci/run` runs it. Here nothing is compiled. */
const TOOLS = join(
  process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "qwen3guard-ci/kubernetes-1.30.0",
);
const INSTALLED = existsSync(join(TOOLS, "helm")) && existsSync(join(TOOLS, "kubeconform"));

test.runIf(process.env.CI)("CI has helm and kubeconform", () => expect(INSTALLED).toBe(true));

test("the chart passes helm lint and kubeconform", { timeout: 300_000 }, (context) => {
  if (!INSTALLED) context.skip("helm and kubeconform are not here: deploy/helm/tools.sh brings them");
  const { status, stdout, stderr } = spawnSync("bash", [CHECK], { encoding: "utf8" });
  expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout.match(/Valid: [1-9]\d*, Invalid: 0, Errors: 0, Skipped: 0/g)).toHaveLength(2);
});
