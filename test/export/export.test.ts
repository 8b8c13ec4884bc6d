import { createHash } from "node:crypto";
import { access, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { threadId } from "node:worker_threads";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { genTiny, tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { CheckpointError, InputError, StorageError } from "../../src/errors.js";
import { exportCheckpoint } from "../../src/export/export.js";
import type { Device, Dtype } from "../../src/model/manifest.js";
import { readManifest } from "../../src/model/read-manifest.js";
import { expectError } from "../support/errors.js";
import { DEFAULT_MODEL, OFFICIAL_TOKENIZER, temporaryFolder } from "../support/model.js";

/** Faults that the file system is told to have. */
const faults = vi.hoisted(() => ({
  freeBytes: null as number | null,
  writesLeft: Number.POSITIVE_INFINITY,
  code: "ENOSPC",
}));

vi.mock("node:fs/promises", async (original) => {
  const fs = await original<typeof import("node:fs/promises")>();
  return {
    ...fs,
    statfs: async (path: string) =>
      faults.freeBytes === null ? fs.statfs(path) : { bavail: faults.freeBytes, bsize: 1 },
    open: async (path: string, flags?: string) => {
      const file = await fs.open(path, flags);
      if (flags !== "w") return file;
      const write = file.write.bind(file) as (...args: unknown[]) => unknown;
      file.write = (async (...args: unknown[]) => {
        if (faults.writesLeft-- <= 0) throw Object.assign(new Error("no"), { code: faults.code });
        return write(...args);
      }) as typeof file.write;
      return file;
    },
  };
});

let root: string;
let checkpoint: string;

beforeAll(async () => {
  root = await temporaryFolder();
  checkpoint = join(root, "checkpoint");
  await writeRandomCheckpoint(checkpoint, { config: tiny, dtype: "BF16" });
});

afterEach(() => {
  faults.freeBytes = null;
  faults.writesLeft = Number.POSITIVE_INFINITY;
  faults.code = "ENOSPC";
});

describe("the folder", () => {
  test("holds graph, weights and manifest, and nothing is left beside it", async () => {
    const dir = await emptyFolder("plain");
    const manifest = await exportCheckpoint(checkpoint, join(dir, "out"), { dtype: "int8" });
    expect(await readdir(dir)).toEqual(["out"]);
    const files = ["model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json"];
    expect((await readdir(join(dir, "out"))).sort()).toEqual(["guard.json", ...files]);
    expect(Object.keys(manifest.files).sort()).toEqual(files);
    for (const file of files) {
      const hash = createHash("sha256").update(await readFile(join(dir, "out", file)));
      expect(manifest.hashes[file]).toBe(hash.digest("hex"));
    }
    expect(JSON.parse(await readFile(join(dir, "out", "guard.json"), "utf8"))).toEqual(manifest);
    expect(manifest).toMatchObject({ dtype: "int8", device: "cpu", kvCache: "fp32" });
    expect(Object.keys(manifest.sources).sort()).toEqual([
      "config.json",
      "model.safetensors",
      ...["tokenizer.json", "tokenizer_config.json"],
    ]);
    expect(manifest.sources["model.safetensors"]).toMatch(/^[0-9a-f]{64}$/);
  });

  test("of a Gen guard holds no graph for branches", async () => {
    const dir = await emptyFolder("gen");
    await writeRandomCheckpoint(join(dir, "gen"), { config: genTiny, dtype: "BF16" });
    const { files } = await exportCheckpoint(join(dir, "gen"), join(dir, "out"), { dtype: "fp32" });
    expect(Object.keys(files).filter((file) => file.endsWith(".onnx"))).toEqual(["model.onnx"]);
  });

  test("holds the checkpoint's own bytes, in bf16 for CUDA", async () => {
    const dir = await emptyFolder("bf16");
    await exportCheckpoint(checkpoint, join(dir, "out"), { device: "cuda" });
    const files = ["model.onnx", "model.onnx.data"].map((file) => readFile(join(dir, "out", file)));
    const data = Buffer.concat(await Promise.all(files));
    const opened = await Checkpoint.open(checkpoint);
    for (const { name, begin, end, file } of opened.tensors.values()) {
      // The moderators are float32 there.
      if (!name.startsWith("model.")) continue;
      const bytes = (await readFile(file)).subarray(begin, end);
      expect(data.includes(bytes), name).toBe(true);
    }
    await opened.close();
  });

  test("takes the tokenizer's files along", async () => {
    const withTokenizer = join(root, "with-tokenizer");
    await writeRandomCheckpoint(withTokenizer, {
      config: { ...tiny, vocab_size: 151936, hidden_size: 32 },
      dtype: "BF16",
      tokenizerDir: OFFICIAL_TOKENIZER,
    });
    const out = join(root, "tokenizer-out");
    await exportCheckpoint(withTokenizer, out);
    const original = await readFile(join(OFFICIAL_TOKENIZER, "tokenizer.json"));
    expect(original.equals(await readFile(join(out, "tokenizer.json")))).toBe(true);
  });

  test("is the same, byte for byte, each time", async () => {
    const dir = await emptyFolder("twice");
    for (const name of ["a", "b"]) await exportCheckpoint(checkpoint, join(dir, name), { dtype: "w8a8" });
    for (const file of ["model.onnx", "model.onnx.data", "guard.json"]) {
      const [a, b] = await Promise.all(["a", "b"].map((name) => readFile(join(dir, name, file))));
      expect(a.equals(b), file).toBe(true);
    }
  });

  test("shows progress up to its whole size", async () => {
    const dir = await emptyFolder("progress");
    const seen: Record<string, [number, number]> = {};
    await exportCheckpoint(checkpoint, join(dir, "out"), {
      onProgress: (stage, done, total) => {
        expect(done).toBeGreaterThanOrEqual(seen[stage]?.[0] ?? 0);
        seen[stage] = [done, total];
      },
    });
    expect(Object.keys(seen)).toEqual(["hash", "write", "check"]);
    for (const [done, total] of Object.values(seen)) expect(done).toBe(total);
  });
});

describe("refusals name what is wrong and leave nothing behind", () => {
  test.each([
    ["dtype", { dtype: "int3" as Dtype }, "UNKNOWN_DTYPE"],
    ["device", { device: "tpu" as Device }, "UNKNOWN_DEVICE"],
    ["bf16 on the CPU", { dtype: "bf16" as Dtype }, "DTYPE_NEEDS_CUDA"],
    ["fp32 on CUDA", { dtype: "fp32" as Dtype, device: "cuda" as Device }, "DTYPE_NEEDS_CPU"],
    ["w8a8 on CUDA", { dtype: "w8a8" as Dtype, device: "cuda" as Device }, "DTYPE_NEEDS_CPU"],
  ])("%s", async (_, options, code) => {
    const dir = await emptyFolder("options");
    await expectError(exportCheckpoint(checkpoint, join(dir, "out"), options), InputError, code);
    expect(await readdir(dir)).toEqual([]);
  });

  test("a checkpoint that is not there", async () => {
    const dir = await emptyFolder("absent");
    await expectError(
      exportCheckpoint(join(root, "nowhere"), join(dir, "out")),
      CheckpointError,
      "CHECKPOINT_MISSING",
    );
    expect(await readdir(dir)).toEqual([]);
  });

  test.each(["fp32", "int8", "w8a8", "int4"] as const)("a weight that is NaN, as %s", async (dtype) => {
    const broken = join(root, `nan-${dtype}`);
    await writeRandomCheckpoint(broken, { config: tiny, dtype: "F32" });
    const file = join(broken, "model.safetensors");
    const bytes = await readFile(file);
    bytes.writeFloatLE(Number.NaN, bytes.length - 4 * 1000);
    await writeFile(file, bytes);
    const dir = await emptyFolder(`nan-out-${dtype}`);
    await expectError(
      exportCheckpoint(broken, join(dir, "out"), { dtype }),
      CheckpointError,
      "NON_FINITE_WEIGHT",
    );
    expect(await readdir(dir)).toEqual([]);
  });

  test("a checkpoint without a tokenizer, and one whose tokenizer is another model's", async () => {
    const bare = join(root, "bare");
    await writeRandomCheckpoint(bare, { config: tiny, dtype: "BF16", tokenizerDir: null });
    const other = join(root, "other-tokenizer");
    await writeRandomCheckpoint(other, { config: tiny, dtype: "BF16", tokenizerDir: DEFAULT_MODEL });
    const dir = await emptyFolder("tokenizer");
    await expectError(exportCheckpoint(bare, join(dir, "out")), CheckpointError, "TOKENIZER_MISSING");
    await expectError(exportCheckpoint(other, join(dir, "out")), CheckpointError, "TOKENIZER_MISMATCH");
    expect(await readdir(dir)).toEqual([]);
  });

  test("an output that exists, before anything is read", async () => {
    const dir = await emptyFolder("exists");
    await mkdir(join(dir, "out"));
    await writeFile(join(dir, "out", "mine.txt"), "keep");
    await expectError(exportCheckpoint(checkpoint, join(dir, "out")), StorageError, "OUTPUT_EXISTS");
    expect(await readdir(join(dir, "out"))).toEqual(["mine.txt"]);
  });

  test("an output that appears meanwhile is not overwritten", async () => {
    const dir = await emptyFolder("race");
    const out = join(dir, "out");
    let made: Promise<unknown> | undefined;
    const exporting = exportCheckpoint(checkpoint, out, {
      onProgress: (stage) => {
        if (stage === "write") made ??= mkdir(out).then(() => writeFile(join(out, "mine.txt"), "keep"));
      },
    });
    await expectError(exporting, StorageError, "OUTPUT_EXISTS");
    await made;
    expect(await readdir(dir)).toEqual(["out"]);
    expect(await readdir(out)).toEqual(["mine.txt"]);
  });

  test("an output under a file", async () => {
    const dir = await emptyFolder("under-file");
    await writeFile(join(dir, "file"), "");
    for (const out of [join(dir, "file", "out"), join(dir, "file", "deeper", "out")]) {
      await expectError(exportCheckpoint(checkpoint, out), StorageError, "OUTPUT_NOT_WRITABLE");
    }
    expect(await readdir(dir)).toEqual(["file"]);
  });

  test("a dangling link in the output's place", async () => {
    const dir = await emptyFolder("dangling");
    await symlink(join(dir, "nowhere"), join(dir, "out"));
    await expectError(exportCheckpoint(checkpoint, join(dir, "out")), StorageError, "OUTPUT_EXISTS");
    expect(await readdir(dir)).toEqual(["out"]);
  });

  test("a disk with too little room, before anything is written", async () => {
    const dir = await emptyFolder("no-room");
    faults.freeBytes = 1000;
    await expectError(exportCheckpoint(checkpoint, join(dir, "out")), StorageError, "DISK_FULL");
    expect(await readdir(dir)).toEqual([]);
  });

  test.each([0, 1])("a disk that fills up after %i writes", async (writes) => {
    const dir = await emptyFolder(`fills-up-${writes}`);
    faults.writesLeft = writes;
    await expectError(exportCheckpoint(checkpoint, join(dir, "out")), StorageError, "DISK_FULL");
    expect(await readdir(dir)).toEqual([]);
  });

  test.each([
    ["ENOSPC", "DISK_FULL", /Free some space, or choose another disk\.$/],
    ["EACCES", "OUTPUT_NOT_WRITABLE", /Choose a folder that you may write to\.$/],
    ["EROFS", "OUTPUT_NOT_WRITABLE", /Its disk can only be read: choose another\.$/],
    ["EIO", "OUTPUT_NOT_WRITABLE", /The disk does not answer/],
    ["ENEW", "OUTPUT_NOT_WRITABLE", /Choose another place\.$/],
  ])("a write that fails with %s is %s, and says what to do", async (code, own, mend) => {
    const dir = await emptyFolder(`fails-${code}`);
    Object.assign(faults, { code, writesLeft: 0 });
    const error = await expectError(exportCheckpoint(checkpoint, join(dir, "out")), StorageError, own);
    expect(error.message).toMatch(mend);
    expect(await readdir(dir)).toEqual([]);
  });

  test("an interruption", async () => {
    const dir = await emptyFolder("interrupted");
    const controller = new AbortController();
    const exporting = exportCheckpoint(checkpoint, join(dir, "out"), {
      signal: controller.signal,
      onProgress: (stage, done) => {
        if (stage === "write" && done > 0) controller.abort(new Error("enough"));
      },
    });
    await expect(exporting).rejects.toMatchObject({
      name: "ClosedError",
      code: "ABORTED",
      cause: expect.objectContaining({ message: "enough" }),
    });
    expect(await readdir(dir)).toEqual([]);
  });

  test("two exports to one place at once: one is there, whole, the other says so", async () => {
    const dir = await emptyFolder("twice");
    const out = join(dir, "out");
    const results = await Promise.allSettled([
      exportCheckpoint(checkpoint, out, { dtype: "fp32" }),
      exportCheckpoint(checkpoint, out, { dtype: "int8" }),
    ]);
    const [manifest] = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    const [error] = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
    expect(error).toMatchObject({ code: "OUTPUT_EXISTS" });
    expect(await readManifest(out)).toEqual(manifest);
    expect(await readdir(dir)).toEqual(["out"]);
  });

  test("what an earlier, killed process left is swept away", async () => {
    const dir = await emptyFolder("swept");
    const partial = join(dir, `.out.${process.pid}-${threadId}-0.partial`);
    await mkdir(partial);
    await writeFile(join(partial, "model.onnx.data"), "half");
    await exportCheckpoint(checkpoint, join(dir, "out"));
    expect(await readdir(dir)).toEqual(["out"]);
    await expect(access(partial)).rejects.toThrow();
  });
});

let folders = 0;
async function emptyFolder(name: string): Promise<string> {
  const dir = join(root, `${name}-${folders++}`);
  await mkdir(dir);
  return dir;
}
