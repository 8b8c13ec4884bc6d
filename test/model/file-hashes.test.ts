import {
  chmod,
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, beforeEach, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { hashFiles, verifyFiles } from "../../src/model/file-hashes.js";
import { type Manifest, MODEL_FILE, WEIGHTS_FILE } from "../../src/model/manifest.js";
import { readManifest } from "../../src/model/read-manifest.js";
import { randomModel, temporaryFolder } from "../support/model.js";

/** How often each file was opened. */
const opened = vi.hoisted(() => ({ files: [] as string[] }));
vi.mock("../../src/files/regular-file.js", async (original) => {
  const real = await original<typeof import("../../src/files/regular-file.js")>();
  return {
    ...real,
    openRegular: (path: string) => {
      opened.files.push(path.split("/").at(-1) as string);
      return real.openRegular(path);
    },
  };
});

const LONG_AGO = new Date(Date.now() - 60_000);

let original: string;
let dir: string;
let cacheDir: string;
let manifest: Manifest;

beforeAll(async () => {
  original = (await randomModel({ config: tiny, dtype: "BF16" })).modelDir;
});

beforeEach(async () => {
  const root = await temporaryFolder();
  dir = join(root, "model");
  cacheDir = join(root, "cache");
  await cp(original, dir, { recursive: true });
  manifest = await readManifest(dir);
});

/** Later than the file system's clock can mistake a change for what was there before. */
const verifyLater = async () => {
  const now = vi.spyOn(Date, "now").mockReturnValue(Date.now() + 60_000);
  try {
    opened.files.length = 0;
    return await verifyFiles(dir, manifest, cacheDir);
  } finally {
    now.mockRestore();
  }
};

test("files that nobody touched are read once", async () => {
  await verifyLater();
  expect([...opened.files].sort()).toEqual(Object.keys(manifest.files).sort());
  await verifyLater();
  expect(opened.files).toEqual([]);
});

test("files of this moment are read again: a change within one tick of the clock would not show", async () => {
  for (let i = 0; i < 2; i++) {
    opened.files.length = 0;
    await verifyFiles(dir, manifest, cacheDir);
    expect(opened.files.length).toBe(Object.keys(manifest.files).length);
  }
  await expect(readdir(cacheDir)).rejects.toThrow();
});

test("a changed byte shows, also when size and time of the file are set as before", async () => {
  await verifyLater();
  const path = join(dir, WEIGHTS_FILE);
  await utimes(path, LONG_AGO, LONG_AGO);
  await verifyLater();
  const bytes = await readFile(path);
  bytes[1000] ^= 1;
  await writeFile(path, bytes);
  await utimes(path, LONG_AGO, LONG_AGO);
  await expect(verifyLater()).rejects.toMatchObject({ code: "MODEL_CHANGED" });
});

test("two files that trade places show", async () => {
  await verifyLater();
  await rename(join(dir, "tokenizer.json"), join(dir, "kept"));
  await rename(join(dir, "tokenizer_config.json"), join(dir, "tokenizer.json"));
  await rename(join(dir, "kept"), join(dir, "tokenizer_config.json"));
  await expect(verifyLater()).rejects.toMatchObject({ code: "MODEL_CHANGED" });
});

test("another folder in its place shows", async () => {
  await verifyLater();
  const other = `${dir}-other`;
  await cp(dir, other, { recursive: true });
  const path = join(other, WEIGHTS_FILE);
  await writeFile(path, (await readFile(path)).fill(0));
  await rm(dir, { recursive: true });
  await rename(other, dir);
  await expect(verifyLater()).rejects.toMatchObject({ code: "MODEL_CHANGED" });
});

test("what a note of the cache says counts for the files it was taken of, not for a manifest", async () => {
  await verifyLater();
  const hashes = { ...manifest.hashes, [MODEL_FILE]: manifest.hashes[WEIGHTS_FILE] };
  await expect(verifyFiles(dir, { ...manifest, hashes }, cacheDir)).rejects.toMatchObject({
    code: "MODEL_CHANGED",
  });
});

test("a note that is no JSON, or something else, is none", async () => {
  await verifyLater();
  const [note] = await readdir(join(cacheDir, "models"));
  for (const text of ["{", "null", "[]", '{"model.onnx": null}', '"x"']) {
    await writeFile(join(cacheDir, "models", note), text);
    await verifyLater();
    expect(opened.files.length).toBe(Object.keys(manifest.files).length);
  }
});

test("a chat template that came to the folder since is refused", async () => {
  await writeFile(join(dir, "chat_template.jinja"), "{{ 'all is well' }}");
  await expect(verifyLater()).rejects.toMatchObject({ code: "MODEL_CHANGED" });
});

test("a folder and a cache that cannot be written will do", async () => {
  await mkdir(cacheDir);
  for (const path of [dir, cacheDir]) await chmod(path, 0o555);
  await verifyLater();
  await writeFile(join(cacheDir, "..", "file"), "");
  await verifyFiles(dir, manifest, join(cacheDir, "..", "file"));
  for (const path of [dir, cacheDir]) await chmod(path, 0o755);
});

test("a link to the file is the file", async () => {
  const elsewhere = join(dir, "..", "elsewhere");
  await rename(join(dir, WEIGHTS_FILE), elsewhere);
  await symlink(elsewhere, join(dir, WEIGHTS_FILE));
  await verifyLater();
  await writeFile(elsewhere, (await readFile(elsewhere)).fill(0));
  await expect(verifyLater()).rejects.toMatchObject({ code: "MODEL_CHANGED" });
});

test("a file that changes while others read it shows afterwards", async () => {
  const requireUnchanged = await verifyLater();
  await requireUnchanged();
  await writeFile(join(dir, MODEL_FILE), await readFile(join(dir, MODEL_FILE)));
  await expect(requireUnchanged()).rejects.toMatchObject({ code: "MODEL_CHANGED" });
});

test("a file that is no file is named", async () => {
  await rm(join(dir, WEIGHTS_FILE));
  await mkdir(join(dir, WEIGHTS_FILE));
  await expect(verifyLater()).rejects.toMatchObject({ code: "MODEL_INCOMPLETE" });
  await expect(hashFiles(dir, [WEIGHTS_FILE])).rejects.toMatchObject({ code: "MODEL_INCOMPLETE" });
});
