import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { open, readdir, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { breakingOff, MAIN, runCli, runHere } from "../support/cli.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

const env = { QWEN3GUARD_CACHE: MODEL_CACHE };
const run = (args: string[]) => runHere(["score", ...args], env);

test("0: every line has its verdict; nothing else is said", async () => {
  const input = '{"prompt":"Hi"}\n\n{"prompt":"Hi","response":"Ho"}';
  const { code, stdout, stderr } = await runCli(["score"], { input, env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout.split("\n").map((line) => line && JSON.parse(line).qwen3guard.part);
  expect(lines).toEqual(["prompt", "", "response", ""]);
});

test("1: a line has an error; all lines are there, and the first that has one is named", async () => {
  const file = join(await temporaryFolder(), "rows.jsonl");
  await writeFile(file, '{"prompt":"Hi"}\nnope\n{"prompt":"Hi"}\n');
  const { code, stdout, stderr } = await run([file, "--field", "found"]);
  expect(code).toBe(1);
  expect(
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => Object.keys(JSON.parse(line).found)[0]),
  ).toEqual(["part", "error", "part"]);
  expect(stderr).toMatch(/^1 of 3 lines have an error, the first in line 2\./);
  expect((await run([file, "--allow-errors", "1"])).code).toBe(0);
});

test("1: a file that is not there, a folder", async () => {
  const folder = await temporaryFolder();
  for (const file of [join(folder, "absent.jsonl"), folder]) {
    const { code, stderr } = await run([file]);
    expect(code).toBe(1);
    expect(stderr).toContain("[ROWS_UNREADABLE]");
  }
});

describe.skipIf(process.platform !== "linux")("a named pipe", () => {
  async function pipe(): Promise<string> {
    const path = join(await temporaryFolder(), "rows");
    execFileSync("mkfifo", [path]);
    return path;
  }

  test("is read as it is written to, to its end", async () => {
    const path = await pipe();
    const scored = runCli(["score", path], { env });
    const writer = await open(path, "w");
    for (let i = 0; i < 3; i++) await writer.write('{"prompt":"Hi"}\n');
    await writer.close();
    const { code, stdout, stderr } = await scored;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.trimEnd().split("\n")).toHaveLength(3);
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("that nobody writes to: one %s ends it", async (signal, code) => {
    const path = await pipe();
    const child = spawn(process.execPath, [MAIN, "score", path], { env: { ...process.env, ...env } });
    onTestFinished(() => void child.kill("SIGKILL"));
    const ended = once(child, "exit");
    await vi.waitFor(async () => expect(await opens(child.pid as number)).toContain(path), 20_000);
    child.kill(signal);
    expect(await ended).toEqual([code, null]);
  });

  test("that nobody writes to holds up no other error", async () => {
    const { code, stderr } = await runCli(["score", await pipe(), "--model", "./absent"], { env });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error \[/);
  });

  test("that nobody writes to is a dataset of eval's no more than any other pipe", async () => {
    const path = await pipe();
    const { code, stderr } = await runHere(["eval", path, "--type", "prompt"], env);
    expect(code).toBe(1);
    expect(stderr).toContain("not a file");
    expect(stderr).toContain("[DATASET_UNREADABLE]");
  });
});

/** Names of what a process has open. */
async function opens(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`;
  return Promise.all((await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => "")));
}

test("1: input that breaks off; what was judged before is there", async () => {
  const { code, stdout, stderr } = await runHere(
    ["score"],
    env,
    breakingOff('{"prompt":"Hi"}\n{"prompt":"Ho'),
  );
  expect(code).toBe(1);
  expect(stdout.trimEnd().split("\n")).toHaveLength(1);
  expect(stderr).toContain("[ROWS_UNREADABLE] Standard input cannot be read: read ECONNRESET.");
});

test("2: a field in which a line that is no row goes on itself", async () => {
  for (const field of ["line", "bytes"]) {
    const { code, stderr } = await run(["--field", field]);
    expect(code).toBe(2);
    expect(stderr).toContain("line and bytes are taken");
  }
});

test("1: whoever reads its lines leaves before the last", async () => {
  const child = await runCli(["score"], {
    input: (async function* () {
      for (let i = 0; i < 200; i++) yield '{"prompt":"Hi"}\n';
    })(),
    onOutput: (child) => child.stdout?.destroy(),
  });
  expect(child.code).toBe(1);
});

test.each([
  ["--allow-errors", "some"],
  ["--max-line", "0"],
  ["--threads", "none"],
])("2: %s %s", async (...args) => {
  expect((await runHere(["score", ...args])).code).toBe(2);
});
