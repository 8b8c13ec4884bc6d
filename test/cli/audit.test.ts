import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hashOf, KEY, linesOf } from "../gateway/audit/audited.js";
import { scriptedUpstream } from "../gateway/upstream.js";
import { MAIN, runHere } from "../support/cli.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

let cache: string;
let folder: string;
let keyFile: string;
const children: ChildProcess[] = [];
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
beforeAll(async () => {
  cache = MODEL_CACHE;
});
beforeEach(async () => {
  folder = await temporaryFolder();
  keyFile = join(folder, "key");
  await writeFile(keyFile, `${KEY}\n`);
  upstream = await scriptedUpstream();
  const content = "Mix flour, water and salt.";
  upstream.stream(
    { choices: [{ index: 0, delta: { content } }] },
    {
      choices: [{ index: 0, delta: {}, finish_reason: "stop" }],
    },
    "[DONE]",
  );
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await upstream.close();
});

async function run(...args: string[]) {
  const env = { ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: cache };
  const started = spawn(process.execPath, [MAIN, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  children.push(started);
  const said = { out: "", err: "" };
  started.stdout.setEncoding("utf8").on("data", (text) => {
    said.out += text;
  });
  started.stderr.setEncoding("utf8").on("data", (text) => {
    said.err += text;
  });
  const ended = once(started, "close");
  const url = () => /http:\/\/127\.0\.0\.1:\d+/.exec(said.out + said.err)?.[0];
  await expect.poll(url, { timeout: 60_000 }).toBeDefined();
  const post = async (path: string, body: object) => {
    const answer = await fetch(`${url()}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: answer.status, text: await answer.text() };
  };
  return { started, said, ended, post };
}

async function start(...options: string[]) {
  const proxy = await run("proxy", "--upstream", upstream.url, "--port", "0", ...options);
  const ask = (content: string) =>
    proxy.post("/v1/chat/completions", { stream: true, messages: [{ role: "user", content }] });
  return { ...proxy, ask };
}

const read = (path: string) => readFile(path, "utf8");

describe.skipIf(process.platform === "win32")("proxy --audit", () => {
  test("writes decisions to a file, to a new one after SIGHUP, and what waits before it ends", async () => {
    const path = join(folder, "audit.jsonl");
    const { started, ask, ended } = await start("--audit", path, "--audit-key-file", keyFile);
    await ask("How do I bake bread?");
    await expect.poll(async () => linesOf(await read(path)).length).toBe(2);
    await rename(path, `${path}.1`);
    started.kill("SIGHUP");
    await expect.poll(() => read(path).catch(() => null)).toBe("");
    await ask("And cake?");
    started.kill("SIGTERM");
    expect((await ended)[0]).toBe(0);
    expect(linesOf(await read(`${path}.1`))[0].hash).toBe(hashOf("How do I bake bread?"));
    expect(linesOf(await read(path)).map(({ part }) => part)).toEqual(["prompt", "response"]);
  });

  test("several workers write whole lines to standard output, where nothing else stands", async () => {
    const { started, said, ask, ended } = await start(
      ...["--audit", "-", "--audit-text", "--audit-key-file", keyFile, "--workers", "2"],
    );
    const question = "How do I bake bread? ".repeat(40);
    await Promise.all(Array.from({ length: 24 }, (_, i) => ask(`${i} ${question}`)));
    started.kill("SIGTERM");
    expect((await ended)[0]).toBe(0);
    const lines = linesOf(said.out);
    expect(lines.filter(({ part }) => part === "prompt")).toHaveLength(24);
    expect(lines.filter(({ part }) => part === "response")).toHaveLength(24);
  });

  test("workers of a proxy and of a service append whole lines to one file, each decision once", async () => {
    const path = join(folder, "audit.jsonl");
    const options = ["--workers", "2", "--audit", path, "--audit-text", "--audit-key-file", keyFile];
    const proxy = await start(...options);
    const service = await run("serve", "--port", "0", ...options);
    try {
      // Lines longer than what a pipe takes at once, of few tokens.
      const long = "How do I bake bread?".padEnd(4500, " temperature");
      const asked = Array.from({ length: 6 }, (_, i) => [
        proxy.ask(`proxy ${i} ${long}`),
        service.post("/v1/classify", { messages: [{ role: "user", content: `serve ${i} ${long}` }] }),
      ]).flat();
      for (const { status } of await Promise.all(asked)) expect(status).toBe(200);
      // Each increment comes on a connection of its own, and so to either worker.
      const open = { messages: [{ role: "user", content: "stream" }] };
      const { id } = JSON.parse((await service.post("/v1/streams", open)).text);
      for (const text of ["Mix ", "flour ", "and ", "water."])
        await service.post(`/v1/streams/${id}`, { text });
      await service.post(`/v1/streams/${id}/end`, {});
    } finally {
      for (const { started, ended } of [proxy, service]) {
        started.kill("SIGTERM");
        expect((await ended)[0]).toBe(0);
      }
    }
    const lines = linesOf(await read(path));
    const texts = (part: string) =>
      lines.flatMap((line) => (line.part === part ? [line.text?.slice(0, 8)] : []));
    const six = (name: string) => Array.from({ length: 6 }, (_, i) => `${name} ${i} How`.slice(0, 8));
    expect(texts("prompt").sort()).toEqual([...six("proxy"), ...six("serve"), "stream"].sort());
    expect(texts("response").sort()).toEqual([...Array(6).fill("Mix flou"), "Mix flou"]);
    const decisions = lines.map(({ requestId, part, choice }) => `${requestId} ${part} ${choice}`);
    expect(new Set(decisions).size).toBe(lines.length);
  });

  test("refuses requests once nobody reads its standard output, and says so", async () => {
    const { started, said, ask } = await start("--audit", "-", "--audit-key-file", keyFile);
    started.stdout.destroy();
    await ask("How do I bake bread?");
    await expect.poll(() => said.err).toContain("audit_unwritable");
    const { status, text } = await ask("And cake?");
    expect([status, JSON.parse(text).error.code]).toEqual([503, "audit_unwritable"]);
  });

  test("says that its key is a random one, where none is given", async () => {
    const { said } = await start("--audit", join(folder, "audit.jsonl"));
    expect(said.err).toContain("audit_key_random");
  });
});

test.each([
  ["a key that is too short", "key", "AUDIT_KEY_INVALID"],
  ["a key that is not there", "none", "AUDIT_KEY_INVALID"],
])("proxy --audit refuses %s", async (_, file, code) => {
  await writeFile(keyFile, "short");
  const audit = ["--audit", join(folder, "audit.jsonl"), "--audit-key-file", join(folder, file)];
  const { code: exit, stderr } = await runHere([
    "proxy",
    "--upstream",
    upstream.url,
    "--port",
    "0",
    ...audit,
  ]);
  expect(exit).toBe(1);
  expect(stderr).toContain(code);
});
