import fs from "node:fs";
import { lstat, readdir, readFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { temporaryFolder } from "../support/model.js";
import { FakeHub } from "./fake-hub.js";

// Windows without the privilege, exFAT, some network shares, containers that forbid the call.

const weights = Buffer.alloc(300_000, 7);
const { symlink, link } = fs.promises;
let hub: FakeHub;

beforeEach(async () => {
  hub = await FakeHub.start();
  hub.files.set("model.safetensors", { content: weights, lfs: true });
  hub.files.set("tokenizer.json", { content: Buffer.from("{}"), lfs: true });
  hub.files.set("config.json", { content: Buffer.from("{}"), lfs: false });
  hub.enter(await temporaryFolder());
});

afterEach(async () => {
  replace(symlink, link);
  vi.unstubAllEnvs();
  await hub.stop();
});

function replace(symbolic: unknown, hard: unknown): void {
  Object.assign(fs.promises, { symlink: symbolic, link: hard });
  syncBuiltinESMExports();
  vi.resetModules();
}

const refuse = (code: string, syscall: string) => async () => {
  throw Object.assign(new Error(`${code}: operation not permitted, ${syscall}`), { code, syscall });
};

async function expectFiles(dir: string): Promise<void> {
  expect(weights.equals(await readFile(join(dir, "model.safetensors")))).toBe(true);
  expect((await readdir(dir)).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  for (const name of await readdir(dir)) expect((await lstat(join(dir, name))).isFile()).toBe(true);
}

test.each([
  ["EPERM", null],
  ["EPERM", "EPERM"],
  ["EPERM", "EISDIR"],
  ["EACCES", null],
  ["EACCES", "EXDEV"],
  ["ENOSYS", null],
  ["ENOSYS", "ENOSYS"],
  ["ENOTSUP", "ENOTSUP"],
  ["EOPNOTSUPP", null],
  ["EINVAL", "EINVAL"],
])("where symbolic links give %s and hard ones %s, files are whole all the same", async (soft, hard) => {
  replace(refuse(soft, "symlink"), hard === null ? link : refuse(hard, "link"));
  const { pull } = await import("../../src/download/hub.js");
  const dir = await pull(FakeHub.repo);
  await expectFiles(dir);
  const before = hub.transfers.length;
  expect(await pull(FakeHub.repo)).toBe(dir);
  expect(hub.transfers.length).toBe(before);
});

test("HF_HUB_DISABLE_SYMLINKS asks for none", async () => {
  vi.stubEnv("HF_HUB_DISABLE_SYMLINKS", "1");
  const { pull } = await import("../../src/download/hub.js");
  await expectFiles(await pull(FakeHub.repo));
});

test("another error of a link is named, and leaves nothing half-made", async () => {
  replace(refuse("ENOSPC", "symlink"), link);
  const { pull } = await import("../../src/download/hub.js");
  await expect(pull(FakeHub.repo)).rejects.toMatchObject({ code: "DISK_FULL" });
});
