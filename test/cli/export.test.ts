import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { loadGuard } from "../../src/guard.js";
import { runHere } from "../support/cli.js";
import { temporaryFolder } from "../support/model.js";

let checkpoint: string;
let dir: string;
let out: string;
beforeAll(async () => {
  checkpoint = join(await temporaryFolder(), "checkpoint");
  await writeRandomCheckpoint(checkpoint, { config: tiny, dtype: "BF16" });
});
beforeEach(async () => {
  dir = await temporaryFolder();
  out = join(dir, "guard");
});

const run = (...args: string[]) => runHere(["export", ...args]);

test("the folder it makes is a model that judges", async () => {
  const { code, stdout, stderr } = await run(checkpoint, out);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(/^\S+guard: fp32 for cpu, fp32 cache, \d+ MB in [\d.]+ s\n$/);
  const guard = await loadGuard(out, { maxStreams: 1 });
  const stream = guard.stream({ messages: [{ role: "user", content: "Hi" }] });
  expect(guard.labels.promptRisk).toContain((await stream.prompt)?.risk);
  await guard.close();
});

test.each([
  [["--dtype", "int8"], "int8 for cpu, fp32 cache"],
  [["--dtype", "int4"], "int4 for cpu, fp32 cache"],
  [["--device", "cuda"], "bf16 for cuda, bf16 cache"],
])("%j gives %s", async (options, description) => {
  const { code, stdout } = await run(checkpoint, out, ...options);
  expect(code).toBe(0);
  expect(stdout).toContain(description);
});

test("--verify tells how far a format is from fp32, an int8 cache is calibrated", async () => {
  const { code, stdout } = await run(checkpoint, out, "--kv-cache", "int8", "--verify");
  expect(code).toBe(0);
  expect(stdout).toContain("int8 cache");
  expect(stdout).toMatch(/Against fp32, on \d+ verdicts .*: risk label the same in [\d.]+ %/);
  expect((await readdir(dir)).sort()).toEqual(["guard"]);
});

test.skipIf(process.platform === "win32")("a name with control characters is shown as text", async () => {
  const { code, stdout } = await run(checkpoint, join(dir, "a\x1b[2Jb"));
  expect(code).toBe(0);
  expect(stdout).toContain("a\\x1b[2Jb: fp32");
});

describe("1, named, and nothing is left behind", () => {
  test.each<[string, () => Promise<string[]>]>([
    ["CHECKPOINT_MISSING", async () => [join(dir, "nowhere"), out]],
    ["DTYPE_NEEDS_CUDA", async () => [checkpoint, out, "--dtype", "bf16"]],
    ["DTYPE_NEEDS_CPU", async () => [checkpoint, out, "--dtype", "w8a8", "--device", "cuda"]],
    ["VERIFY_NEEDS_CPU", async () => [checkpoint, out, "--device", "cuda", "--verify"]],
    ["OUTPUT_NOT_WRITABLE", async () => [checkpoint, join(checkpoint, "config.json", "guard")]],
    [
      "HUB_OFFLINE",
      async () => {
        vi.stubEnv("HF_HUB_OFFLINE", "1");
        vi.stubEnv("HF_HOME", dir);
        return ["acme/none", out];
      },
    ],
  ])("%s", async (errorCode, args) => {
    const { code, stdout, stderr } = await run(...(await args()));
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(`[${errorCode}]`);
    expect(await readdir(dir)).toEqual([]);
  });

  test("OUTPUT_EXISTS", async () => {
    await writeFile(out, "mine");
    const { code, stderr } = await run(checkpoint, out);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("[OUTPUT_EXISTS]") });
    expect(await readdir(dir)).toEqual(["guard"]);
  });
});

test.each([[["--dtype", "fp64"]], [["--device", "tpu"]], [["--kv-cache", "int4"]], [["--no-such-option"]]])(
  "2: %j",
  async (options) => {
    expect((await run(checkpoint, out, ...options)).code).toBe(2);
  },
);
