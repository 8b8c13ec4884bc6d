import { execFileSync, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const CHECK = fileURLToPath(new URL("../../deploy/helm/check.sh", import.meta.url));

/** Whether what check.sh would first compile for minutes is there: it installs it where it is run by hand. */
function isInstalled(): boolean {
  try {
    const bin = `${execFileSync("go", ["env", "GOPATH"], { encoding: "utf8" }).trim()}/bin`;
    const env = { ...process.env, PATH: `${process.env.PATH}:${bin}` };
    return ["helm", "kubeconform"].every((name) => spawnSync("which", [name], { env }).status === 0);
  } catch {
    return false;
  }
}

test("the chart passes helm lint and kubeconform", { timeout: 300_000 }, (context) => {
  if (!isInstalled())
    context.skip("Go, helm and kubeconform are not all here: deploy/helm/check.sh installs them");
  const { status, stdout, stderr } = spawnSync("bash", [CHECK], { encoding: "utf8" });
  expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout.match(/Valid: [1-9]\d*, Invalid: 0, Errors: 0, Skipped: 0/g)).toHaveLength(2);
});
