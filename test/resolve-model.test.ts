import { rmSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { tiny, writeRandomCheckpoint } from "../scripts/checkpoint/random.js";
import { Checkpoint } from "../src/checkpoint/checkpoint.js";
import { Engine } from "../src/engine/engine.js";
import { ClosedError, StorageError } from "../src/errors.js";
import { readManifest } from "../src/model/read-manifest.js";
import { type ResolveOptions, resolveModel } from "../src/resolve-model.js";
import type { DeviceName } from "../src/runtime/devices/device-id.js";
import { expectError } from "./support/errors.js";
import { DEFAULT_MODEL, randomModel, reseal, temporaryFolder } from "./support/model.js";

const cuda = vi.hoisted(() => ({
  usable: false,
  problem: "No GPU here." as string | null,
  driver: { devices: [] },
}));
vi.mock("../src/runtime/devices/cuda/files.js", async (original) => ({
  ...(await original<typeof import("../src/runtime/devices/cuda/files.js")>()),
  inspectCuda: () => cuda,
}));

let checkpoint: string;
let cacheDir: string;

beforeAll(async () => {
  checkpoint = join(await temporaryFolder(), "checkpoint");
  await writeRandomCheckpoint(checkpoint, { config: tiny, dtype: "BF16" });
});
beforeEach(async () => {
  cacheDir = join(await temporaryFolder(), "cache");
  Object.assign(cuda, { usable: false, problem: "No GPU here." });
});

const exports = async () =>
  (await readdir(cacheDir)).filter((name) => name !== "checkpoints" && name !== "models");
const resolve = (options: ResolveOptions = {}) => resolveModel(checkpoint, { cacheDir, ...options });

describe("the export of a checkpoint", () => {
  test("is made once, and the checkpoint hashed once", async () => {
    const hashed: number[] = [];
    const onProgress: ResolveOptions["onProgress"] = (stage, done, total) => {
      if (stage === "hash" && done === total) hashed.push(total);
    };
    const dir = await resolve({ onProgress });
    expect(hashed.length).toBe(1);
    expect(await resolve({ onProgress })).toBe(dir);
    expect(hashed.length).toBe(1);
    expect(await exports()).toHaveLength(1);
    expect((await readManifest(dir)).sources).toHaveProperty(["model.safetensors"]);
  });

  test.each(["model.onnx.data", "guard.json"])("is made anew where its %s was cut off", async (file) => {
    const dir = await resolve();
    await truncate(join(dir, file), 10);
    expect(await resolve()).toBe(dir);
    await readManifest(dir);
  });

  test.each<[string, (dir: string) => Promise<unknown>]>([
    [
      "zeros for weights",
      async (dir) => {
        const path = join(dir, "model.onnx.data");
        await writeFile(path, (await readFile(path)).fill(0));
      },
    ],
    [
      "other labels, and a digest that fits",
      (dir) =>
        reseal(dir, (manifest) => {
          manifest.config.labels.responseRisk = ["Unsafe", "Safe", "Controversial"];
          return manifest;
        }),
    ],
    [
      "another checkpoint's export",
      async (dir) => {
        const { modelDir } = await randomModel({ config: tiny, dtype: "BF16", seed: 2 });
        await rm(dir, { recursive: true });
        await rename(modelDir, dir);
      },
    ],
    [
      "the same checkpoint's export of another format",
      async (dir) => {
        const other = await resolve({ dtype: "int8" });
        await rm(dir, { recursive: true });
        await rename(other, dir);
      },
    ],
    [
      "an export without a self-test",
      (dir) => reseal(dir, (manifest) => ({ ...manifest, selfTest: undefined })),
    ],
  ])("is made anew where there is %s", async (_, damage) => {
    const dir = await resolve();
    const before = await readManifest(dir);
    await damage(dir);
    expect(await resolve()).toBe(dir);
    expect(await readManifest(dir)).toEqual(before);
    await (await Engine.load(dir, { maxStreams: 1, cacheDir })).close();
  });

  test("asked for several times at once, comes to all", async () => {
    const [dir, ...others] = await Promise.all([resolve(), resolve(), resolve()]);
    expect(others).toEqual([dir, dir]);
    expect(await exports()).toHaveLength(1);
    await readManifest(dir);
  });

  test("goes nowhere where the cache cannot be written, with an error of our own", async () => {
    await writeFile(cacheDir, "a file");
    await expectError(resolve(), StorageError, "OUTPUT_NOT_WRITABLE");
    await expect(resolve()).rejects.toThrow("QWEN3GUARD_CACHE");
  });

  // Node's recursive mkdir never ends in /proc.
  test
    .skipIf(process.platform === "win32")
    .each(["/proc/nowhere/cache", "/sys/cache", "/dev/null/cache", "/tmp/nul\0cache"])(
    "goes nowhere in %j",
    async (cacheDir) => {
      await expectError(resolveModel(checkpoint, { cacheDir }), StorageError, "OUTPUT_NOT_WRITABLE");
    },
  );

  test("that loses its folder on the way is named", async () => {
    let gone = false;
    const onProgress: ResolveOptions["onProgress"] = (stage) => {
      if (stage !== "write" || gone) return;
      gone = true;
      rmSync(cacheDir, { recursive: true });
    };
    await expectError(resolve({ onProgress }), StorageError, "OUTPUT_NOT_WRITABLE");
  });

  test.each(["5", "{}", "[]", '{"config.json": "x"}', "no JSON"])(
    "does not believe a note of hashes that says %s",
    async (note) => {
      const dir = await resolve();
      const notes = join(cacheDir, "checkpoints");
      for (const name of await readdir(notes)) await writeFile(join(notes, name), note);
      expect(await resolve()).toBe(dir);
    },
  );

  test("is aborted with an error of our own, whatever the reason", async () => {
    await expectError(resolve({ signal: AbortSignal.abort("enough") }), ClosedError, "ABORTED");
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error("enough"));
    await expectError(resolve({ signal: controller.signal, onProgress }), ClosedError, "ABORTED");
  });

  test("does not mind a dangling link beside the weights", async () => {
    const linked = join(await temporaryFolder(), "checkpoint");
    await writeRandomCheckpoint(linked, { config: tiny, dtype: "BF16" });
    await symlink(join(linked, "nowhere"), join(linked, "notes.txt"));
    await readManifest(await resolveModel(linked, { cacheDir }));
  });

  test("says device and dtype in its folder's name", async () => {
    expect(await resolve()).toMatch(/checkpoint-cpu-fp32-[0-9a-f]{16}$/);
    expect(await resolve({ dtype: "int8" })).toMatch(/checkpoint-cpu-int8-[0-9a-f]{16}$/);
    expect(await exports()).toHaveLength(2);
  });

  test("is not taken for one of another release", async () => {
    const [name] = [await resolve()].map((dir) => dir.split("/").at(-1) as string);
    const old = join(cacheDir, name.replace(/[0-9a-f]{16}$/, "0123456789abcdef"));
    await mkdir(old, { recursive: true });
    await writeFile(join(old, "guard.json"), '{"format": 0}');
    expect(await resolve()).not.toBe(old);
  });
});

test("the embedded model is the one that was published, or none", async () => {
  const { sources } = await readManifest(await resolveModel(undefined, { cacheDir }));
  const sums = await readFile(join(DEFAULT_MODEL, "SHA256SUMS"), "utf8");
  for (const [file, hash] of Object.entries(sources)) expect(sums).toContain(`${hash}  ${file}\n`);
  const sha256 = vi.spyOn(Checkpoint.prototype, "sha256");
  sha256.mockResolvedValue({ ...sources, "model.safetensors": "0".repeat(64) });
  const other = join(await temporaryFolder(), "other-cache");
  await expect(resolveModel(undefined, { cacheDir: other })).rejects.toMatchObject({
    code: "CHECKPOINT_CHANGED",
    message: expect.stringContaining("Install the package again"),
  });
  sha256.mockRestore();
});

describe("the device", () => {
  test("cuda without CUDA says why, before anything is done", async () => {
    for (const device of ["cuda", "cuda:1"] as const) {
      const resolved = resolve({ device });
      await expect(resolved).rejects.toMatchObject({ code: "CUDA_UNAVAILABLE", message: "No GPU here." });
    }
    await expect(exports()).rejects.toThrow();
    await expect(resolve({ device: "tpu" as DeviceName })).rejects.toMatchObject({ code: "UNKNOWN_DEVICE" });
  });

  test.each<[string, ResolveOptions, string, string]>([
    ["auto is the CPU for a small model", {}, "cpu", "fp32"],
    ["unless its dtype is CUDA's", { dtype: "fp16" }, "cuda", "fp16"],
    ["cuda is bf16 by default", { device: "cuda" }, "cuda", "bf16"],
    ["and any that CUDA takes", { device: "cuda:3", dtype: "int4" }, "cuda", "int4"],
    ["w8a8 is the CPU's", { dtype: "w8a8" }, "cpu", "w8a8"],
  ])("where CUDA works, %s", async (_, options, device, dtype) => {
    Object.assign(cuda, { usable: true, problem: null });
    expect(await readManifest(await resolve(options))).toMatchObject({ device, dtype });
  });

  test("auto is the CPU where CUDA does not work", async () => {
    expect(await readManifest(await resolve({ dtype: "int8" }))).toMatchObject({ device: "cpu" });
    await expect(resolve({ dtype: "bf16" })).rejects.toMatchObject({ code: "DTYPE_NEEDS_CUDA" });
  });
});
