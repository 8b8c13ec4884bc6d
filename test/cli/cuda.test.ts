import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { makeWheels } from "../runtime/devices/cuda/install/wheels.js";
import { runCli, runHere } from "../support/cli.js";
import { temporaryFolder } from "../support/model.js";

const DRIVER = fileURLToPath(new URL("../runtime/devices/cuda/install/driver.c", import.meta.url));
// Whatever CUDA the machine has must not be seen.
const NO_CUDA = {
  LD_LIBRARY_PATH: "",
  CUDA_HOME: "",
  CUDA_PATH: "",
  VIRTUAL_ENV: "",
  CONDA_PREFIX: "",
  PATH: "",
};

async function environment() {
  return { ...NO_CUDA, QWEN3GUARD_CUDA: await temporaryFolder() };
}

test("install says what it takes, and what is still missing; status then fails and says why", async () => {
  const wheels = await temporaryFolder();
  for (const [name, bytes] of await makeWheels()) await writeFile(join(wheels, name), bytes);
  const env = await environment();
  const { code, stdout, stderr } = await runCli(["cuda", "install", "--from", wheels], { env });
  expect(code).toBe(0);
  expect(stderr).toMatch(/MB {2}onnxruntime_gpu-.*: .*libonnxruntime_providers_cuda\.so\n/);
  expect(stderr).toMatch(/MB {2}in all, from .*, into /);
  expect(stdout).toContain(`Installed in ${env.QWEN3GUARD_CUDA}`);
  expect(stdout).toContain("CUDA cannot be used");

  const status = await runCli(["cuda", "status"], { env });
  expect(status.code).toBe(1);
  expect(status.stdout).toMatch(/✗ NVIDIA driver +libcuda\.so\.1/);
  expect(status.stdout).toMatch(/✓ libcublas\.so\.13 +\//);
  expect(status.stdout).toMatch(/install driver 580 or later/);
});

test("a wrong option is wrong usage", async () => {
  expect((await runHere(["cuda", "status", "--wrong"])).code).toBe(2);
  // There is one release of CUDA that it could be for.
  expect((await runHere(["cuda", "install", "--cuda", "12"])).code).toBe(2);
});

describe.skipIf(process.platform !== "linux" || !hasCompiler())("with a stand-in for the driver", () => {
  async function withDriver(...flags: string[]) {
    const drivers = await temporaryFolder();
    compile(join(drivers, "libcuda.so.1"), flags);
    return { ...(await environment()), LD_LIBRARY_PATH: drivers };
  }

  async function status(env: Record<string, string>) {
    const { code, stdout } = await runCli(["cuda", "status", "--json"], { env });
    return { code, ...JSON.parse(stdout) };
  }

  test("usable once the libraries are installed; devices with their memory", async () => {
    const wheels = await temporaryFolder();
    for (const [name, bytes] of await makeWheels()) await writeFile(join(wheels, name), bytes);
    const env = await withDriver();
    compile(join(env.LD_LIBRARY_PATH, "libnvidia-ml.so.1"), ["-DNVML"]);
    expect(await status(env)).toMatchObject({
      code: 1,
      usable: false,
      problem: expect.stringContaining("qwen3guard cuda install"),
    });
    await runCli(["cuda", "install", "--from", wheels], { env });
    expect(await status(env)).toMatchObject({
      code: 0,
      usable: true,
      problem: null,
      driver: {
        version: "13.0",
        release: "580.95.05",
        problem: null,
        devices: [
          {
            index: 0,
            name: "Stand-in",
            capability: "9.0",
            totalBytes: 80 * 2 ** 30,
            freeBytes: 60 * 2 ** 30,
          },
        ],
      },
    });
  });

  test("a GPU that the provider has no machine code for is refused by name", async () => {
    const env = await withDriver("-DMAJOR=10");
    expect((await status(env)).problem).toMatch(
      /for GPUs of compute capability 7\.5, .*12\.0 alone; cuda:0 \(Stand-in\) is of 10\.0\. Run on/,
    );
    const { code, stderr } = await runCli(["scan", "--device", "cuda"], { env, input: "x" });
    expect(stderr).toContain("GPU_UNSUPPORTED");
    expect(code).toBe(1);
  });

  test("a driver that is too old, and one without a device", async () => {
    const old = await status(await withDriver("-DVERSION=12080"));
    expect(old.problem).toMatch(/serves CUDA 12\.8, .* install driver 580/);
    expect(old.driver.devices[0].freeBytes).toBeNull();
    expect(await status(await withDriver("-DINIT=100"))).toMatchObject({
      usable: false,
      problem: expect.stringContaining("no CUDA-capable device is detected (100)"),
    });
  });
});

function hasCompiler(): boolean {
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function compile(library: string, flags: string[]): void {
  execFileSync("gcc", ["-shared", "-fPIC", ...flags, "-o", library, DRIVER]);
}
