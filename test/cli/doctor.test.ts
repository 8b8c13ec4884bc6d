import { copyFile, mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import { findLibrary } from "../../src/runtime/library.js";
import { runCli, runHere } from "../support/cli.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

test("says what is there and that the model runs, with the runtime beside the CUDA provider where there is one", async () => {
  const cuda = await temporaryFolder();
  const { path, packageVersion } = findLibrary();
  const copy = join(cuda, packageVersion, basename(path));
  await mkdir(dirname(copy));
  await copyFile(path, copy);
  const env = { QWEN3GUARD_CACHE: MODEL_CACHE, QWEN3GUARD_CUDA: cuda };
  const { code, stdout } = await runCli(["doctor", "--json"], { env });
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.Node).toEqual({ ok: true, detail: expect.stringContaining(process.version) });
  expect(report["ONNX Runtime"].detail).toBe(`${packageVersion}, ${copy}`);
  expect(report.CUDA).toEqual({ ok: true, detail: expect.stringMatching(/^not usable\. .+\./) });
  expect(report.Model).toEqual({
    ok: true,
    detail: expect.stringMatching(/fp32 on cpu, 16 streams of \d+ tokens; judged a prompt \w+ in/),
  });
});

test("names what is wrong, and fails", async () => {
  const { code, stdout } = await runHere(["doctor", "--model", "./nowhere"]);
  expect(code).toBe(1);
  expect(stdout).toContain("✗ Model");
  expect(stdout).toContain("MODEL_UNKNOWN");
});
