import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { access, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { FakeHub } from "../download/fake-hub.js";
import { MAIN, runCli } from "../support/cli.js";
import { temporaryFolder } from "../support/model.js";

const SIGNALS = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const;

let dir: string;
let child: ChildProcess | undefined;
beforeEach(async () => {
  dir = await temporaryFolder();
});
afterEach(() => {
  child?.kill("SIGKILL");
});

function start(args: string[], env: Record<string, string> = {}): ChildProcess {
  child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, NO_COLOR: "1", ...env } });
  return child;
}

async function until(is: () => Promise<boolean>): Promise<void> {
  while (!(await is())) await sleep(5);
}

// Windows has no signals.
describe.skipIf(process.platform === "win32").each(SIGNALS)("%s", (signal, code) => {
  test("while it exports: nothing is left of the folder, nor of the one it is compared with", async () => {
    const checkpoint = join(await temporaryFolder(), "checkpoint");
    await writeRandomCheckpoint(checkpoint, { config: tiny, dtype: "BF16" });
    const exporting = start(["export", checkpoint, join(dir, "guard"), "--kv-cache", "int8", "--verify"]);
    const closed = once(exporting, "close");
    await until(async () => (await readdir(dir)).some((name) => name.endsWith(".partial")));
    exporting.kill(signal);
    expect(await closed).toEqual([code, null]);
    expect(await readdir(dir)).toEqual([]);
  });

  test("while it fetches: what is there stays, and the next pull goes on from it", async () => {
    const hub = await FakeHub.start();
    hub.home = dir;
    try {
      const content = Buffer.alloc(100_000, "weights ");
      for (const name of ["config.json", "tokenizer.json"])
        hub.files.set(name, { content: Buffer.from(name), lfs: false });
      hub.files.set("model.safetensors", { content, lfs: true });
      let goOn = () => {};
      const gate = new Promise<void>((resolve) => {
        goOn = resolve;
      });
      hub.fault = (file, count) => {
        if (file !== "model.safetensors") return undefined;
        return count === 1 ? { cutAfter: 40_000 } : count === 2 ? { gate } : undefined;
      };
      const env = { HF_HOME: dir, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: join(dir, "hub") };
      const blobs = join(dir, "hub", "models--acme--guard", "blobs");
      const part = join(blobs, `${hub.oid("model.safetensors")}.incomplete`);
      const pulling = start(["pull", FakeHub.repo], env);
      const closed = once(pulling, "close");
      await until(
        async () => hub.transfers.filter((own) => own.startsWith("model.safetensors")).length === 2,
      );
      pulling.kill(signal);
      expect(await closed).toEqual([code, null]);
      expect((await stat(part)).size).toBe(40_000);
      goOn();
      const again = await runCli(["pull", FakeHub.repo], { env });
      expect(again).toMatchObject({ code: 0, stderr: "" });
      expect(hub.transfers.at(-1)).toBe("model.safetensors bytes=40000-");
      expect(await readFile(join(again.stdout.trim(), "model.safetensors"))).toEqual(content);
      await expect(access(part)).rejects.toThrow();
    } finally {
      await hub.stop();
    }
  });
});
