import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { scriptedUpstream } from "../gateway/upstream.js";
import { MAIN, runHere } from "../support/cli.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

let env: NodeJS.ProcessEnv;
let upstream: Awaited<ReturnType<typeof scriptedUpstream>>;
beforeAll(async () => {
  env = { ...process.env, NO_COLOR: "1", QWEN3GUARD_CACHE: MODEL_CACHE };
});
beforeEach(async () => {
  upstream = await scriptedUpstream();
});
afterEach(() => upstream.close());

/** A running `qwen3guard proxy`, once it says where it listens. */
async function start(...options: string[]) {
  const args = [MAIN, "proxy", "--upstream", upstream.url, "--port", "0", ...options];
  const child = spawn(process.execPath, args, { env });
  const ended = once(child, "close");
  let log = "";
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    log += text;
  });
  child.stdout.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  while (!said.includes("\n")) await Promise.race([once(child.stdout, "data"), ended]);
  return {
    said: () => said,
    url: said.split(" ")[0],
    log: () => log,
    async stop(signal: NodeJS.Signals): Promise<number | null> {
      child.kill(signal);
      return (await ended)[0];
    },
  };
}

const user = (content: string) => ({ role: "user", content });
const ask = (url: string, content: string) => converse(url, [user(content)]);
const converse = (url: string, messages: object[]) =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer key-of-the-client" },
    body: JSON.stringify({ model: "m", stream: true, messages }),
  });

const answer = (...contents: string[]) => [
  ...contents.map(
    (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`,
  ),
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\n`,
  "data: [DONE]\n\n",
];

test.each<NodeJS.Signals>(["SIGTERM", "SIGINT"])(
  "answers like the API behind it, logs one line a request without its text, and ends at %s with 0",
  async (signal) => {
    upstream.answerWith(() => ({ script: answer("Knead the dough, ", "then let it rest.") }));
    const proxy = await start();
    expect(proxy.said()).toBe(`${proxy.url} guards ${upstream.url} (hold-back)\n`);
    expect((await fetch(`${proxy.url}/healthz`)).status).toBe(200);
    const response = await ask(proxy.url, "How do I bake bread?");
    const text = await response.text();
    expect(response.status).toBe(200);
    expect(text).toContain("dough");
    expect(text.trimEnd()).toMatch(/data: \[DONE\]$/);
    expect(upstream.asked[0].headers.authorization).toBe("Bearer key-of-the-client");
    expect(await proxy.stop(signal)).toBe(0);
    const entries = proxy.log().trimEnd().split("\n");
    expect(entries).toHaveLength(1);
    expect(JSON.parse(entries[0])).toMatchObject({ status: 200 });
    expect(entries[0]).not.toMatch(/bread|dough|key-of-the-client/);
  },
);

test("with --read-ahead the next turn finds the answer read, and nothing is read unasked without", async () => {
  const text = "Mix flour, water and salt, let it rest for a day, and bake it hot, with steam.";
  upstream.answerWith(() => ({ script: answer(text) }));
  const turns = [user("How do I bake bread?"), { role: "assistant", content: text }, user("How hot is hot?")];
  const ran: number[] = [];
  for (const options of [[], ["--read-ahead"]]) {
    const proxy = await start(...options);
    await (await converse(proxy.url, turns.slice(0, 1))).text();
    const first = await prefilled(proxy.url);
    // Without, half a second's rest brings nothing.
    if (options.length === 0) await setTimeout(1000);
    else await vi.waitFor(async () => expect(await prefilled(proxy.url)).toBeGreaterThan(first + 12), 20_000);
    await (await converse(proxy.url, turns)).text();
    expect(await proxy.stop("SIGTERM")).toBe(0);
    const { promptTokens, reusedTokens } = JSON.parse(proxy.log().trimEnd().split("\n")[1]);
    ran.push(promptTokens - reusedTokens);
  }
  const [anew, ahead] = ran;
  expect(ahead).toBeLessThan(anew - 12);
});

/** Tokens of prompts that ran so far. */
async function prefilled(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return Number(/\{[^}]*state="prefilled"[^}]*\} (\d+)/.exec(metrics)?.[1]);
}

test("a policy file says what passes", async () => {
  const policy = join(await temporaryFolder(), "policy.json");
  await writeFile(policy, JSON.stringify({ thresholds: { Unsafe: 0 }, debounce: 1 }));
  upstream.answerWith(() => ({ script: answer("never", " seen") }));
  const proxy = await start("--policy", policy, "--prompt-first");
  expect((await ask(proxy.url, "Hi")).status).toBe(400);
  expect(upstream.asked).toEqual([]);
  expect(await proxy.stop("SIGTERM")).toBe(0);
});

const run = (...args: string[]) => runHere(["proxy", "--upstream", "http://127.0.0.1:9", ...args]);

test("what its policy file does wrong is named before anything listens", async () => {
  const { code, stdout, stderr } = await run("--policy", join(await temporaryFolder(), "absent.json"));
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toContain("[POLICY_UNREADABLE]");
});

test("a port that is taken is named", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const { port } = other.address() as AddressInfo;
  const { code, stderr } = await run("--port", String(port));
  expect(code).toBe(1);
  expect(stderr).toMatch(/^error \[[A-Z_]+\] .*port/i);
  other.close();
});

test.each([
  [["--port", "70000"]],
  [["--port", ""]],
  [["--mode", "guess"]],
  [["--timeout", "0"]],
  [["--upstream", "ftp://api.example.com"]],
  [["--upstream", "https://api.example.com?key=1"]],
])("2: %j", async (options) => {
  expect((await run(...options)).code).toBe(2);
});

test("2: no upstream", async () => {
  expect(await runHere(["proxy"])).toMatchObject({ code: 2, stderr: expect.stringContaining("--upstream") });
});
