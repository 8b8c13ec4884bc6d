import { rmSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { GuardError } from "../../../../../src/errors.js";
import { cudaFolder, inspectCuda } from "../../../../../src/runtime/devices/cuda/files.js";
import { installCuda, missingWheels } from "../../../../../src/runtime/devices/cuda/install/install.js";
import { findLibrary } from "../../../../../src/runtime/library.js";
import { temporaryFolder } from "../../../../support/model.js";
import { content, FakeIndex, makeWheels, PACKAGES } from "./wheels.js";

const LIBRARIES = PACKAGES.flatMap(({ libraries }) => libraries);
const RUNTIME = basename(findLibrary().path);

let index: FakeIndex;
let root: string;

beforeEach(async () => {
  index = await FakeIndex.start();
  root = await temporaryFolder();
  vi.stubEnv("QWEN3GUARD_CUDA", root);
  vi.stubEnv("PIP_INDEX_URL", index.address);
  for (const name of ["LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH"]) {
    vi.stubEnv(name, undefined);
  }
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await index.stop();
});

async function install(from?: string): Promise<void> {
  await installCuda(await missingWheels(from));
}

async function failure(promise: Promise<unknown>): Promise<GuardError> {
  return promise.then(
    () => expect.unreachable("it should fail"),
    (error) => error,
  );
}

async function installed(): Promise<string[]> {
  return (await readdir(cudaFolder())).sort();
}

test("puts the wheels' libraries and a copy of ONNX Runtime into the folder, nothing else", async () => {
  const progress: string[] = [];
  const wheels = await missingWheels();
  expect(wheels.map(({ name, size }) => [name, size])).toEqual(
    [...index.wheels].map(([name, { length }]) => [name, length]),
  );
  await installCuda(wheels, {
    onProgress: (file, done, total) => {
      if (done === total) progress.push(file);
    },
  });
  expect(await installed()).toEqual([...LIBRARIES, RUNTIME].sort());
  for (const library of LIBRARIES) {
    expect((await readFile(join(cudaFolder(), library))).equals(content(library))).toBe(true);
  }
  expect(new Set(progress)).toEqual(new Set([...index.wheels.keys(), ...LIBRARIES]));
  expect(inspectCuda().libraries.map(({ path }) => path)).not.toContain(null);
  expect(await missingWheels()).toEqual([]);
});

test("fetches only what the machine lacks, and never half of a package", async () => {
  const toolkit = await temporaryFolder();
  for (const name of ["libcudart.so.13", "libcublas.so.13"]) await writeFile(join(toolkit, name), "");
  vi.stubEnv("LD_LIBRARY_PATH", `:${toolkit}`);
  const missing = (await missingWheels()).flatMap(({ libraries }) => libraries);
  expect(missing).not.toContain("libcudart.so.13");
  expect(missing).toContain("libcublas.so.13");
  await writeFile(join(toolkit, "libcublasLt.so.13"), "");
  expect((await missingWheels()).flatMap(({ libraries }) => libraries)).not.toContain("libcublas.so.13");
});

test("goes on where an earlier run stopped, and where the connection breaks", async () => {
  const [[wheel, { length }]] = index.wheels;
  await mkdir(cudaFolder());
  await writeFile(join(cudaFolder(), `${wheel}.incomplete`), index.wheels.get(wheel)!.subarray(0, 1000));
  index.cutAfter = (file, range) => (file === wheel && range === "bytes=1000-" ? length >> 1 : undefined);
  await install();
  const ranges = index.seen.filter((line) => line.includes(wheel)).map((line) => line.split(" ")[1]);
  expect(ranges).toEqual(["bytes=1000-", `bytes=${1000 + (length >> 1)}-`]);
  expect(await installed()).toEqual([...LIBRARIES, RUNTIME].sort());
});

test("does not fetch a wheel again that was fetched but not unpacked", async () => {
  const [[wheel, bytes]] = index.wheels;
  await mkdir(cudaFolder());
  await writeFile(join(cudaFolder(), wheel), bytes);
  await install();
  expect(index.seen.join("\n")).not.toContain(wheel);
  expect(await installed()).toEqual([...LIBRARIES, RUNTIME].sort());
});

test("another installation that runs at once may be done with a wheel first", async () => {
  await installCuda(await missingWheels(), {
    onProgress: (file) => {
      if (!LIBRARIES.includes(file)) return;
      for (const wheel of index.wheels.keys()) rmSync(join(cudaFolder(), wheel), { force: true });
    },
  });
  expect(await installed()).toEqual([...LIBRARIES, RUNTIME].sort());
});

test("refuses a wheel with another SHA-256 than the index announced", async () => {
  index.sha256 = "0".repeat(64);
  expect((await failure(install())).code).toBe("DOWNLOAD_CORRUPT");
  expect(await installed()).toEqual([]);
});

test("refuses a library with another SHA-256 than its wheel's RECORD", async () => {
  index.wheels = await makeWheels((library) =>
    library.includes("curand") ? Buffer.from("other") : content(library),
  );
  expect(await failure(install())).toMatchObject({
    code: "WHEEL_DAMAGED",
    message: expect.stringContaining("libcurand.so.10"),
  });
  const folder = await installed();
  expect(folder).toContain("libcublas.so.13");
  expect(folder.filter((name) => name.startsWith("libcurand"))).toEqual([]);
});

test("takes the wheels from a folder and leaves them there", async () => {
  const from = await temporaryFolder();
  for (const [name, bytes] of index.wheels) await writeFile(join(from, name), bytes);
  await install(from);
  expect(await installed()).toEqual([...LIBRARIES, RUNTIME].sort());
  expect((await readdir(from)).sort()).toEqual([...index.wheels.keys()].sort());
  expect(index.seen).toEqual([]);
});

test.each([
  ["no wheel", "WHEEL_NOT_FOUND", (wheels: Map<string, Buffer>) => wheels.clear()],
  ["no zip file", "WHEEL_DAMAGED", (wheels: Map<string, Buffer>) => spoil(wheels, Buffer.from("zip?"))],
  ["half a zip file", "WHEEL_DAMAGED", (wheels: Map<string, Buffer>) => spoil(wheels)],
])("says what is wrong with a folder with %s", async (_case, code, change) => {
  const from = await temporaryFolder();
  const wheels = await makeWheels();
  change(wheels);
  for (const [name, bytes] of wheels) await writeFile(join(from, name), bytes);
  expect((await failure(install(from))).code).toBe(code);
});

function spoil(wheels: Map<string, Buffer>, by?: Buffer): void {
  for (const [name, bytes] of wheels) wheels.set(name, by ?? bytes.subarray(0, bytes.length >> 1));
}

test("names a wheel without the library, and the command that fetches a missing one", async () => {
  const [[first], [, second]] = index.wheels;
  index.wheels.set(first, second);
  expect((await failure(install())).code).toBe("WHEEL_INCOMPLETE");
  const error = await failure(install(await temporaryFolder()));
  expect(error.message).toContain(`pip download --no-deps`);
  expect(error.message).toContain(`onnxruntime-gpu==${findLibrary().packageVersion}`);
  expect((await failure(install(join(root, "none")))).code).toBe("WHEEL_NOT_FOUND");
});

test("sends credentials to the index alone", async () => {
  const { origin } = new URL(index.address);
  vi.stubEnv("PIP_INDEX_URL", `${index.address.replace("://", "://me:pass%20word@")}/`);
  await install();
  const authorized = index.seen.filter((line) => line.includes("Basic"));
  expect(authorized).toHaveLength(PACKAGES.length);
  for (const line of authorized) expect(line).toBe(`${line.split(" ")[0]}  Basic ${btoa("me:pass word")}`);
  index.wheels.clear();
  vi.stubEnv("QWEN3GUARD_CUDA", await temporaryFolder());
  const { message } = await failure(install());
  expect(message).toContain(origin);
  expect(message).not.toContain("pass");
});

test.each([
  ["answers HTML", "INDEX_FAILED", (page: Page) => page.end("<html>")],
  ["refuses", "INDEX_FAILED", (page: Page) => page.writeHead(403).end()],
  ["is broken", "INDEX_UNREACHABLE", (page: Page) => page.writeHead(503).end()],
  ["has no such release", "WHEEL_NOT_FOUND", (page: Page) => page.end(`{"files":[]}`)],
  ["breaks off", "INDEX_UNREACHABLE", (page: Page) => page.destroy()],
])("an index that %s gives a clear error with a way out", async (_case, code, page) => {
  index.page = page;
  const error = await failure(missingWheels());
  expect(error.code).toBe(code);
  expect(error.message).toMatch(/PIP_INDEX_URL.*--from/);
});

type Page = Parameters<NonNullable<FakeIndex["page"]>>[0];

test("an address that is none, and a platform without CUDA", async () => {
  vi.stubEnv("PIP_INDEX_URL", "ftp://mirror");
  expect((await failure(missingWheels())).code).toBe("INDEX_ADDRESS");
  const platform = Object.getOwnPropertyDescriptor(process, "platform")!;
  Object.defineProperty(process, "platform", { ...platform, value: "darwin" });
  try {
    expect((await failure(missingWheels())).code).toBe("CUDA_PLATFORM");
    expect(inspectCuda()).toMatchObject({
      usable: false,
      problem: expect.stringContaining("Linux x64 only"),
    });
  } finally {
    Object.defineProperty(process, "platform", platform);
  }
});

test("an aborted installation leaves no library behind and says so", async () => {
  const controller = new AbortController();
  const wheels = await missingWheels(undefined, controller.signal);
  const onProgress = (file: string) => {
    if (file.endsWith(".so")) controller.abort();
  };
  const { code } = await failure(installCuda(wheels, { onProgress, signal: controller.signal }));
  expect(code).toBe("ABORTED");
  expect(await installed()).toEqual([wheels[0].name]);
});
