import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { pullCommand } from "../../src/cli/commands/pull.js";
import { FakeHub } from "../download/fake-hub.js";

let hub: FakeHub;
let home: string;
let stdout: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pull-"));
  hub = await FakeHub.start();
  for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) {
    hub.files.set(name, { content: Buffer.from(name), lfs: false });
  }
  hub.enter(home);
  stdout = "";
  vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    stdout += chunk;
    return true;
  });
});

afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(home, { recursive: true });
});

test("prints the snapshot's folder and nothing else on standard output", async () => {
  await pullCommand().parseAsync([FakeHub.repo], { from: "user" });
  expect(stdout).toBe(`${join(home, "hub", "models--acme--guard", "snapshots", hub.commit)}\n`);
});

test("passes the revision on, and errors through", async () => {
  await pullCommand().parseAsync([FakeHub.repo, "--revision", "v1"], { from: "user" });
  expect(hub.seen[0].file).toBe("/api/models/acme/guard/revision/v1");
  await expect(pullCommand().parseAsync(["acme/none"], { from: "user" })).rejects.toMatchObject({
    code: "REPO_NOT_FOUND",
  });
});

test("fetches the 0.6B model if none is named; help shows examples", async () => {
  await expect(pullCommand().parseAsync([], { from: "user" })).rejects.toThrow(
    /Qwen\/Qwen3Guard-Stream-0\.6B/,
  );
  const command = pullCommand();
  let help = "";
  command.configureOutput({
    writeOut: (text) => {
      help += text;
    },
  });
  command.outputHelp();
  expect(help).toMatch(/Examples:[\s\S]*qwen3guard pull Qwen/);
  expect(help).toMatch(/HF_TOKEN/);
});
