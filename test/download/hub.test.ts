import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { cachedSnapshot, isHubId, pull } from "../../src/download/hub.js";
import { HubCache } from "../../src/download/hub-cache.js";
import { ClosedError, InputError, StorageError } from "../../src/errors.js";
import { FakeHub } from "./fake-hub.js";

const SIZE = 300_000;
const weights = Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 8)) & 255));

let hub: FakeHub;
let home: string;
let repoDir: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "hub-"));
  repoDir = join(home, "hub", "models--acme--guard");
  hub = await FakeHub.start();
  hub.files.set("model.safetensors", { content: weights, lfs: true });
  hub.files.set("config.json", { content: Buffer.from('{"a": 1}'), lfs: false });
  hub.files.set("tokenizer.json", { content: Buffer.from("{}"), lfs: true });
  hub.files.set("README.md", { content: Buffer.from("# Guard"), lfs: false });
  hub.files.set("runs/model.safetensors", { content: Buffer.from("no"), lfs: true });
  hub.enter(home);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(home, { recursive: true });
});

async function expectWeights(dir: string): Promise<void> {
  expect(weights.equals(await readFile(join(dir, "model.safetensors")))).toBe(true);
}

async function failure(promise: Promise<unknown>): Promise<StorageError> {
  const error = await promise.then(
    () => null,
    (error) => error,
  );
  expect(error).toBeInstanceOf(StorageError);
  return error;
}

test("fills the cache as the Python library lays it out, with what a checkpoint needs", async () => {
  const progress: [string, number, number][] = [];
  const dir = await pull(FakeHub.repo, { onProgress: (...args) => progress.push(args) });

  expect(dir).toBe(join(repoDir, "snapshots", hub.commit));
  expect((await readdir(dir)).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  await expectWeights(dir);
  expect(await readlink(join(dir, "config.json"))).toBe(join("..", "..", "blobs", hub.oid("config.json")));
  expect((await readdir(join(repoDir, "blobs"))).sort()).toEqual(
    ["config.json", "model.safetensors", "tokenizer.json"].map((name) => hub.oid(name)).sort(),
  );
  expect(await readFile(join(repoDir, "refs", "main"), "utf8")).toBe(hub.commit);
  expect(progress.at(-1)).toEqual(["model.safetensors", SIZE, SIZE]);
  expect(new Set(progress.map(([file]) => file)).size).toBe(3);
});

test("does not fetch again what is there", async () => {
  const dir = await pull(FakeHub.repo);
  const before = hub.transfers.length;
  expect(await pull(FakeHub.repo)).toBe(dir);
  expect(hub.transfers.length).toBe(before);

  // A new commit with one file changed: only that one travels.
  hub.commit = "3".repeat(40);
  hub.files.set("config.json", { content: Buffer.from('{"a": 2}'), lfs: false });
  const next = await pull(FakeHub.repo);
  expect(hub.transfers.slice(before)).toEqual(["config.json bytes=0-"]);
  expect(await readFile(join(next, "config.json"), "utf8")).toBe('{"a": 2}');
  await expectWeights(next);
});

test("continues within one pull after a cut connection", async () => {
  hub.fault = (file, count) =>
    file === "model.safetensors" && count <= 2 ? { cutAfter: 100_000 } : undefined;
  const dir = await pull(FakeHub.repo);
  await expectWeights(dir);
  const starts = hub.transfers
    .filter((t) => t.startsWith("model."))
    .map((t) => Number(/bytes=(\d+)-/.exec(t)![1]));
  expect(starts).toEqual([0, 100_000, 200_000]);
});

test("goes on through many cuts as long as each attempt brings something", async () => {
  hub.fault = (file) => (file === "model.safetensors" ? { cutAfter: 30_000 } : undefined);
  await expectWeights(await pull(FakeHub.repo));
  expect(hub.transfers.filter((t) => t.startsWith("model"))).toHaveLength(10);
});

test("continues in the next pull where the last one gave up", async () => {
  hub.fault = (file, count) =>
    file === "model.safetensors" ? { cutAfter: count === 1 ? 100_000 : 0 } : undefined;
  const error = await failure(pull(FakeHub.repo));
  expect(error.code).toBe("DOWNLOAD_CUT");
  expect(error.message).toMatch(/continues where it stopped/);
  expect(await cachedSnapshot(FakeHub.repo, hub.commit)).toBe(null);
  const incomplete = join(repoDir, "blobs", `${hub.oid("model.safetensors")}.incomplete`);
  expect((await stat(incomplete)).size).toBe(100_000);

  hub.fault = () => undefined;
  const before = hub.transfers.length;
  const loaded: number[] = [];
  const dir = await pull(FakeHub.repo, {
    onProgress: (file, n) => file.startsWith("model") && loaded.push(n),
  });
  expect(hub.transfers.slice(before)).toEqual(["model.safetensors bytes=100000-"]);
  expect(loaded[0]).toBe(100_000);
  await expectWeights(dir);
  await expect(stat(incomplete)).rejects.toThrow();
});

test("starts over with a server that knows no ranges", async () => {
  hub.fault = (file, count) =>
    file === "model.safetensors"
      ? { ignoreRange: true, ...(count === 1 && { cutAfter: 100_000 }) }
      : undefined;
  const dir = await pull(FakeHub.repo);
  await expectWeights(dir);
});

test("tries again when the hub is briefly overloaded", async () => {
  hub.fault = (file, count) => (file === "model.safetensors" && count <= 2 ? { status: 503 } : undefined);
  const dir = await pull(FakeHub.repo);
  await expectWeights(dir);
});

test.each(["model.safetensors", "config.json"])("refuses and deletes a damaged %s", async (name) => {
  hub.fault = (file) => (file === name ? { corrupt: true } : undefined);
  const error = await failure(pull(FakeHub.repo));
  expect(error.code).toBe("DOWNLOAD_CORRUPT");
  expect(await readdir(join(repoDir, "blobs"))).not.toContainEqual(expect.stringContaining(hub.oid(name)));
  expect(await cachedSnapshot(FakeHub.repo)).toBe(null);
});

test("a damaged or overlong partial download is not passed off as good", async () => {
  await pull(FakeHub.repo);
  const blob = join(repoDir, "blobs", hub.oid("model.safetensors"));
  await rm(blob);
  await writeFile(`${blob}.incomplete`, Buffer.alloc(1000, 1));
  expect((await failure(pull(FakeHub.repo))).code).toBe("DOWNLOAD_CORRUPT");
  await writeFile(`${blob}.incomplete`, Buffer.alloc(SIZE + 1));
  await expectWeights(await pull(FakeHub.repo));
});

test("an interrupted update leaves the old snapshot in use", async () => {
  const old = await pull(FakeHub.repo);
  hub.commit = "4".repeat(40);
  hub.files.set("model.safetensors", { content: Buffer.from(weights).reverse(), lfs: true });
  hub.fault = (file) => (file === "model.safetensors" ? { corrupt: true } : undefined);
  await failure(pull(FakeHub.repo));
  expect(await cachedSnapshot(FakeHub.repo)).toBe(old);
});

test("two pulls at once do not disturb each other", async () => {
  hub.fault = (file, count) =>
    file === "model.safetensors" && count <= 3 ? { cutAfter: 70_000 } : undefined;
  const [a, b] = await Promise.all([pull(FakeHub.repo), pull(FakeHub.repo)]);
  expect(a).toBe(b);
  await expectWeights(a);
});

test("a file of a snapshot is never gone while another pull links it again", async () => {
  const cache = new HubCache(FakeHub.repo);
  const dir = await pull(FakeHub.repo);
  for (let round = 0; round < 20; round++) {
    const links = [0, 1, 2].map(() => cache.link(hub.commit, "config.json", hub.oid("config.json")));
    expect(await readFile(join(dir, "config.json"), "utf8")).toBe('{"a": 1}');
    await Promise.all(links);
  }
  expect((await readdir(dir)).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
});

test("stops when aborted and continues later", async () => {
  const controller = new AbortController();
  hub.fault = (file, count) =>
    file === "model.safetensors" && count > 1
      ? { gate: new Promise(() => {}) }
      : file === "model.safetensors"
        ? { cutAfter: 50_000 }
        : undefined;
  const pulling = pull(FakeHub.repo, {
    signal: controller.signal,
    onProgress: (_file, loaded) => loaded === 50_000 && controller.abort(),
  });
  const error = await pulling.catch((error) => error);
  expect(error).toBeInstanceOf(ClosedError);
  expect(error.code).toBe("ABORTED");
  hub.fault = () => undefined;
  const before = hub.transfers.length;
  await pull(FakeHub.repo);
  expect(hub.transfers.slice(before)).toEqual(["model.safetensors bytes=50000-"]);
});

test("gives the token to the hub and to nobody else", async () => {
  vi.stubEnv("HF_TOKEN", "hf_secret\n");
  await pull(FakeHub.repo);
  for (const { kind, authorization } of hub.seen) {
    expect(authorization).toBe(kind === "cdn" ? undefined : "Bearer hf_secret");
  }
  expect(hub.seen.some(({ kind }) => kind === "cdn")).toBe(true);
});

test("follows a file list over pages, without the token to another origin", async () => {
  vi.stubEnv("HF_TOKEN", "hf_secret");
  hub.secondPage = true;
  await expectWeights(await pull(FakeHub.repo));
  expect(hub.seen.filter(({ file }) => file === "page2")).toEqual([
    { kind: "cdn", file: "page2", range: undefined, authorization: undefined },
  ]);
});

test("takes the stored token, and the cache folder from HF_HUB_CACHE", async () => {
  await writeFile(join(home, "token"), "hf_stored\n");
  vi.stubEnv("HF_HUB_CACHE", join(home, "elsewhere"));
  const dir = await pull(FakeHub.repo);
  expect(dir.startsWith(join(home, "elsewhere", "models--acme--guard"))).toBe(true);
  expect(hub.seen[0].authorization).toBe("Bearer hf_stored");
});

test.each([
  [401, "GatedRepo", "REPO_GATED", /accept.*licence.*HF_TOKEN/i],
  [403, "GatedRepo", "REPO_GATED", /accept.*licence.*HF_TOKEN/i],
  [401, undefined, "HUB_REFUSED", /HF_TOKEN/],
  [401, "RepoNotFound", "REPO_NOT_FOUND", /Check the name/],
  [404, "RepoNotFound", "REPO_NOT_FOUND", /Check the name/],
  [404, "RevisionNotFound", "REVISION_NOT_FOUND", /branches and tags/],
  [500, undefined, "HUB_FAILED", /Try again/],
  [400, undefined, "HUB_FAILED", /Try again/],
  [200, undefined, "HUB_FAILED", /login page/],
])("explains an answer %s %s", async (status, errorCode, code, message) => {
  hub.fault = () => ({ status, errorCode });
  const error = await failure(pull(FakeHub.repo));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
});

test("a gated file stops at once, without retries", async () => {
  hub.fault = (file) => (file === "config.json" ? { status: 403, errorCode: "GatedRepo" } : undefined);
  expect((await failure(pull(FakeHub.repo))).code).toBe("REPO_GATED");
  expect(hub.transfers.filter((t) => t.startsWith("config"))).toHaveLength(1);
});

test("no network: says so", async () => {
  await hub.stop();
  const error = await failure(pull(FakeHub.repo));
  expect(error.code).toBe("HUB_UNREACHABLE");
  expect(error.message).toMatch(/ECONNREFUSED.*network/);
});

test("offline: the cache or an error, but no request", async () => {
  vi.stubEnv("HF_HUB_OFFLINE", "1");
  expect((await failure(pull(FakeHub.repo))).code).toBe("HUB_OFFLINE");
  vi.stubEnv("HF_HUB_OFFLINE", "0");
  const dir = await pull(FakeHub.repo);
  vi.stubEnv("HF_HUB_OFFLINE", "TRUE");
  const before = hub.seen.length;
  expect(await pull(FakeHub.repo)).toBe(dir);
  expect(hub.seen.length).toBe(before);
});

test("a download larger than the disk is refused before it starts", async () => {
  hub.listing.set("model.safetensors", { lfs: { oid: "a".repeat(64), size: 1e15 } });
  const error = await failure(pull(FakeHub.repo));
  expect(error.code).toBe("DISK_FULL");
  expect(error.message).toMatch(/HF_HOME/);
  expect(hub.transfers).toEqual([]);
});

test.runIf(existsSync("/dev/full"))(
  "a disk that fills up during the download is named, without retries",
  async () => {
    await mkdir(join(repoDir, "blobs"), { recursive: true });
    await symlink("/dev/full", join(repoDir, "blobs", `${hub.oid("model.safetensors")}.incomplete`));
    const error = await failure(pull(FakeHub.repo));
    expect(error.code).toBe("DISK_FULL");
    expect(error.message).toMatch(/Free some space.*continues where it stopped/);
    expect(hub.transfers.filter((t) => t.startsWith("model"))).toHaveLength(1);
  },
);

test("an unwritable cache is named", async () => {
  await writeFile(join(home, "file"), "");
  vi.stubEnv("HF_HUB_CACHE", join(home, "file"));
  expect((await failure(pull(FakeHub.repo))).code).toBe("CACHE_UNWRITABLE");
});

test("a hub cannot write outside its repository's cache folder", async () => {
  hub.listing.set("config.json", { oid: "../../../evil" });
  expect((await failure(pull(FakeHub.repo))).code).toBe("HUB_FAILED");
  hub.listing.set("config.json", {});
  hub.listing.set("README.md", { path: "../../../../config.json" });
  hub.commit = "../../evil";
  expect((await failure(pull(FakeHub.repo))).code).toBe("HUB_FAILED");
  hub.commit = "5".repeat(40);
  await pull(FakeHub.repo);
  expect((await readdir(home)).sort()).toEqual(["hub"]);
});

test.each(["config.json", "tokenizer.json", "model.safetensors"])(
  "a repository without %s is no checkpoint",
  async (name) => {
    hub.files.delete(name);
    expect((await failure(pull(FakeHub.repo))).code).toBe("REPO_NOT_A_CHECKPOINT");
  },
);

test("shards: a snapshot counts as cached only with every file its index names", async () => {
  hub.files.delete("model.safetensors");
  const index = { weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" } };
  hub.files.set("model.safetensors.index.json", { content: Buffer.from(JSON.stringify(index)), lfs: false });
  for (const name of ["model-1.safetensors", "model-2.safetensors"]) {
    hub.files.set(name, { content: Buffer.from(name), lfs: true });
  }
  const dir = await pull(FakeHub.repo);
  expect(await cachedSnapshot(FakeHub.repo)).toBe(dir);
  expect(await cachedSnapshot(FakeHub.repo, hub.commit)).toBe(dir);
  await rm(join(repoDir, "blobs", hub.oid("model-2.safetensors")));
  expect(await cachedSnapshot(FakeHub.repo)).toBe(null);
});

test("names of repositories and revisions", async () => {
  expect(isHubId("Qwen/Qwen3Guard-Stream-0.6B")).toBe(true);
  for (const name of [
    "guard",
    "./guard",
    "/a/b",
    "a/b/c",
    "../b",
    "a/..",
    "src/download",
    "a b/c",
    "a--b/c",
    "",
  ]) {
    expect(isHubId(name), name).toBe(false);
  }
  await expect(pull("../guard")).rejects.toThrow(InputError);
  await expect(pull(FakeHub.repo, { revision: "../../x" })).rejects.toMatchObject({ code: "REVISION_NAME" });
  vi.stubEnv("HF_ENDPOINT", "hub.example.com");
  await expect(pull(FakeHub.repo)).rejects.toMatchObject({ code: "HUB_ENDPOINT" });
});
