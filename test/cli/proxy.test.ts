import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { afterEach, beforeAll, expect, test } from "vitest";
import { MAIN, runCli } from "../support/cli.js";
import { MODEL_CACHE } from "../support/model.js";

const UPSTREAM = ["--upstream", "http://127.0.0.1:1"];

let cache: string;
let child: ChildProcess | null = null;
beforeAll(async () => {
  cache = MODEL_CACHE;
});
afterEach(() => child?.kill("SIGKILL"));

/** Starts the command, and waits for all that it says at its start. */
async function start(...args: string[]) {
  child = spawn(process.execPath, [MAIN, "proxy", ...UPSTREAM, "--port", "0", ...args], {
    env: { ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: cache },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = { out: "", err: "" };
  child.stdout?.on("data", (data) => {
    said.out += data;
  });
  child.stderr?.on("data", (data) => {
    said.err += data;
  });
  while (!said.out.includes("guards")) await once(child.stdout!, "data");
  return { child, said, port: Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(said.out)?.[1]) };
}

const status = (port: number, path: string, host: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port, path, headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    outgoing.on("error", reject);
    outgoing.end();
  });

test("answers to loopback's names alone, refuses paths that nobody judges, and logs a line of JSON for each", async () => {
  const { child, said, port } = await start();
  expect(said.out).not.toContain("Warning");
  expect(await status(port, "/healthz", "localhost")).toBe(200);
  expect(await status(port, "/healthz", "evil.example")).toBe(403);
  expect(await status(port, "/api/pull", "localhost")).toBe(404);
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]);
  const codes = said.err
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).error.code);
  expect(codes).toEqual(["host_refused", "path_refused"]);
});

test("says what it lets through that somebody may not have meant", async () => {
  const { said, port } = await start("--other-paths", "pass", "--allow-host", "*");
  expect(said.out).toMatch(/^Warning: Paths that are not judged all pass/m);
  expect(said.out).toMatch(/^Warning: Whoever reaches 127\.0\.0\.1 may use it, under any Host/m);
  expect(await status(port, "/api/tags", "evil.example")).toBe(502);
});

test("a path to allow that is none is named", async () => {
  const { code, stderr } = await runCli(["proxy", ...UPSTREAM, "--port", "0", "--allow-path", "files"], {
    env: { QWEN3GUARD_CACHE: cache },
  });
  expect(code).toBe(1);
  expect(stderr).toContain('"files" is no path to allow');
});
