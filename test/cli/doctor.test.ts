import { expect, test } from "vitest";
import { runCli } from "../support/cli.js";
import { temporaryFolder } from "../support/model.js";

test("says what is there and that the model runs", async () => {
  const env = { QWEN3GUARD_CACHE: await temporaryFolder() };
  const { code, stdout } = await runCli(["doctor", "--json"], { env });
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.Node).toEqual({ ok: true, detail: expect.stringContaining(process.version) });
  expect(report["ONNX Runtime"].detail).toMatch(/^1\.\d+\.\d+, .*onnxruntime/);
  expect(report.Model).toEqual({ ok: true, detail: expect.stringMatching(/judged a prompt \w+ in/) });
});

test("names what is wrong, and fails", async () => {
  const { code, stdout } = await runCli(["doctor", "--model", "./nowhere"]);
  expect(code).toBe(1);
  expect(stdout).toContain("✗ Model");
  expect(stdout).toContain("MODEL_UNKNOWN");
});
