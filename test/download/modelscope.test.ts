import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { cachedCheckpoint, pull } from "../../src/download/hub.js";
import { temporaryFolder } from "../support/model.js";
import { breakOff } from "./break-off.js";

const REPO = "acme/Guard-0.6B";
const WEIGHTS = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 255));

/** A ModelScope with one repository. */
let server: Server;
let home: string;
let files: Map<string, Buffer>;
let listing: (path: string) => object;
let asked: string[];
let cutAfter: number | null;
let spoiled: boolean;

beforeEach(async () => {
  files = new Map([
    ["model.safetensors", WEIGHTS],
    ["config.json", Buffer.from("{}")],
    ["tokenizer.json", Buffer.from("{}")],
    ["README.md", Buffer.from("# Guard")],
  ]);
  listing = () => ({});
  [asked, cutAfter, spoiled] = [[], null, false];
  home = await temporaryFolder();
  server = createServer((request, response) => {
    const { pathname, searchParams: query } = new URL(request.url as string, "http://scope");
    if (pathname === `/api/v1/models/${REPO}/repo/files`) {
      const list = [...files].map(([Path, content]) => ({
        ...{ Name: Path, Path, Type: "blob", Size: content.length },
        Sha256: createHash("sha256").update(content).digest("hex"),
        ...listing(Path),
      }));
      const Files = [{ Name: "runs", Path: "runs", Type: "tree", Size: 0 }, ...list];
      return void response.end(JSON.stringify({ Code: 200, Data: { Files } }));
    }
    const content = files.get(query.get("FilePath") ?? "");
    if (pathname !== `/api/v1/models/${REPO}/repo` || !content) return void response.writeHead(404).end();
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    asked.push(`${query.get("FilePath")} ${from} ${query.get("Revision")}`);
    const body = Buffer.from(content.subarray(from));
    if (spoiled) body[0] ^= 1;
    response.writeHead(206, { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` });
    if (cutAfter === null || body.length <= cutAfter) return void response.end(body);
    const path = join(home, "models", "acme", "Guard-0___6B", "model.safetensors");
    void breakOff(response, body.subarray(0, cutAfter), { path, size: cutAfter });
    cutAfter = null;
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  vi.stubEnv("MODELSCOPE_ENDPOINT", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  vi.stubEnv("MODELSCOPE_CACHE", home);
  vi.stubEnv("QWEN3GUARD_SOURCE", "modelscope");
});

afterEach(() => {
  vi.unstubAllEnvs();
  server.close();
  server.closeAllConnections();
});

test("fills ModelScope's own cache with what a checkpoint needs, and finds it there again", async () => {
  expect(await cachedCheckpoint(REPO)).toBeNull();
  const progress: string[] = [];
  const dir = await pull(REPO, {
    onProgress: (file, loaded, total) => progress.push(`${file} ${loaded}/${total}`),
  });
  expect(dir).toBe(join(home, "models", "acme", "Guard-0___6B"));
  expect((await readdir(dir)).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  expect(WEIGHTS.equals(await readFile(join(dir, "model.safetensors")))).toBe(true);
  expect(progress).toContain("model.safetensors 300000/300000");
  expect(asked[0]).toMatch(/^(config|tokenizer)\.json 0 master$/);
  expect(await cachedCheckpoint(REPO)).toBe(dir);
  const before = asked.length;
  await pull(REPO);
  expect(asked).toHaveLength(before);
});

test("goes on where a connection broke", async () => {
  cutAfter = 100_000;
  await pull(REPO, { revision: "v1" });
  const weights = asked.filter((line) => line.startsWith("model.safetensors"));
  expect(weights).toEqual(["model.safetensors 0 v1", "model.safetensors 100000 v1"]);
});

test("files of another revision are fetched, though they are as long", async () => {
  const dir = await pull(REPO, { revision: "v1" });
  const others = Buffer.from(WEIGHTS).reverse();
  files.set("model.safetensors", others);
  asked = [];
  await pull(REPO, { revision: "v2" });
  expect(asked).toEqual(["model.safetensors 0 v2"]);
  expect(others.equals(await readFile(join(dir, "model.safetensors")))).toBe(true);
});

test("what arrives with another hash is not kept", async () => {
  spoiled = true;
  await expect(pull(REPO)).rejects.toMatchObject({ code: "DOWNLOAD_CORRUPT" });
  expect(await cachedCheckpoint(REPO)).toBeNull();
});

test.each<[string, () => void, string]>([
  ["a repository that is not there", () => vi.stubEnv("NAME", "acme/other"), "REPO_NOT_FOUND"],
  ["one without weights", () => files.delete("model.safetensors"), "REPO_NOT_A_CHECKPOINT"],
  ["a file without a hash", () => (listing = () => ({ Sha256: "" })), "HUB_FAILED"],
  ["a size that is none", () => (listing = () => ({ Size: -1 })), "HUB_FAILED"],
  ["an address that is none", () => vi.stubEnv("MODELSCOPE_ENDPOINT", "ftp://x"), "HUB_ENDPOINT"],
  [
    "a server that is not there",
    () => vi.stubEnv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1"),
    "HUB_UNREACHABLE",
  ],
  ["a hub that nobody knows", () => vi.stubEnv("QWEN3GUARD_SOURCE", "elsewhere"), "SOURCE_UNKNOWN"],
])("%s is refused by name", async (_, spoil, code) => {
  spoil();
  await expect(pull(process.env.NAME ?? REPO)).rejects.toMatchObject({ code });
});

test("a file name cannot leave the folder", async () => {
  files.set("../evil.safetensors", Buffer.from("x"));
  files.set("runs/model.safetensors", Buffer.from("x"));
  const dir = await pull(REPO);
  expect((await readdir(dir)).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
});

test("an aborted download says so, and goes on the next time", async () => {
  const controller = new AbortController();
  const fetching = pull(REPO, {
    signal: controller.signal,
    onProgress: (file) => file === "model.safetensors" && controller.abort(),
  });
  await expect(fetching).rejects.toMatchObject({ code: "ABORTED" });
  expect(await pull(REPO)).toContain("Guard-0___6B");
});
