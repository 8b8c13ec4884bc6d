import { execFile } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { breakingOff, MAIN, type RunOptions, runCli, runHere } from "../support/cli.js";
import { MODEL_CACHE, temporaryFolder } from "../support/model.js";

let dir: string;
let env: Record<string, string>;
beforeAll(async () => {
  dir = await temporaryFolder();
  env = { QWEN3GUARD_CACHE: MODEL_CACHE };
});

const scan = (args: string[], input: RunOptions["input"], options: RunOptions = {}) =>
  runCli(["scan", ...args], { input, env, ...options });
const scanHere = (args: string[], input: string) => runHere(["scan", ...args], env, input);

describe("--jsonl", () => {
  test("a prompt, a token each, an end", async () => {
    const text = "First knead the dough,\nthen let it rest. 然后烤。";
    const { code, stdout, stderr } = await scanHere(["--prompt", "How do I bake bread?", "--jsonl"], text);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({
      type: "prompt",
      risk: expect.any(String),
      riskProbability: expect.any(Number),
    });
    const standing: { text: string }[] = [];
    for (const line of lines.filter(({ type }) => type === "token")) {
      expect(Object.keys(line)).toEqual([
        "type",
        "index",
        "tokenId",
        "text",
        "risk",
        "riskProbability",
        "category",
        "categoryProbability",
        "provisional",
      ]);
      standing[line.index] = line;
    }
    expect(standing.map((line) => line.text).join("")).toBe(text);
    expect(lines.at(-1)).toMatchObject({
      type: "end",
      risk: expect.any(String),
      tokens: standing.length,
      promptTokens: expect.any(Number),
      reusedTokens: 0,
      latencyMs: { p50: expect.any(Number), p99: expect.any(Number) },
    });
  });

  test("text and ids give the same tokens", async () => {
    const fromText = await scanHere(["--jsonl"], "Knead the dough.");
    const tokens = (stdout: string) =>
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line))
        .filter(({ type }) => type === "token");
    const ids = tokens(fromText.stdout).map(({ tokenId }) => tokenId);
    const fromIds = await scanHere(["--jsonl", "--input", "ids"], ids.join(" "));
    expect(tokens(fromIds.stdout).map(({ tokenId }) => tokenId)).toEqual(ids);
    expect(fromText.stdout).not.toContain('"type":"prompt"');
  });
});

test("text goes through unchanged, characters cut in two included", async () => {
  const text = "naïve 👍🏽 注意\n";
  const bytes = Buffer.from(text);
  async function* pieces() {
    for (const byte of bytes) {
      yield Buffer.of(byte) as unknown as string;
      await setTimeout(1);
    }
  }
  const { code, stdout } = await scan([], pieces());
  expect(code).toBe(0);
  expect(stdout.startsWith(text)).toBe(true);
  expect(stdout).toContain("latency");
});

test("a conversation from a file", async () => {
  const file = join(dir, "chat.json");
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello!" },
    { role: "user", content: "How are you?" },
  ];
  await writeFile(file, JSON.stringify(messages));
  const { code, stdout } = await scanHere(["--messages", file], "Fine, thanks.");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^prompt/);
});

describe("exit codes", () => {
  test.each([
    [["scan", "--input", "tokens"]],
    [["scan", "--device", "tpu"]],
    [["scan", "--no-such-option"]],
    [["scan", "--prompt", "a", "--messages", "b"]],
    [["export"]],
    [["proxy", "--upstream", "https://me:key@api.example.com"]],
    [["no-such-command"]],
  ])("2: %j", async (args) => {
    const { code, stdout, stderr } = await runHere(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/error: /);
  });

  test.each([
    ["EMPTY_RESPONSE", [], ""],
    ["TOKEN_INVALID", ["--input", "ids"], "1 2 three"],
    ["TOKEN_INVALID", ["--input", "ids"], "1 2 99999999"],
    ["CONTEXT_EXCEEDED", ["--overflow", "error"], "word ".repeat(20_000)],
    ["UPSTREAM_ERROR", ["--input", "sse"], '{"error":{"message":"bad key"}}'],
    ["UPSTREAM_CUT", ["--input", "sse", "--stop"], 'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'],
    ["CONTROL_CHARACTER", ["--stop"], "stupxx\b\bid"],
    ["CONTROL_CHARACTER", ["--stop"], "fine\rgone"],
  ])("1: %s", async (errorCode, args, input) => {
    const { code, stderr } = await scanHere(args, input);
    expect(code).toBe(1);
    expect(stderr).toContain(`[${errorCode}]`);
    expect(stderr).not.toContain("    at ");
  });

  test.each([
    ["MODEL_UNKNOWN", ["--model", "./nowhere"]],
    ["CUDA_UNAVAILABLE", ["--device", "cuda"]],
    ["MESSAGES_UNREADABLE", ["--messages", "no-such-file.json"]],
    ["POLICY_UNREADABLE", ["--policy", "no-such-file.json"]],
  ])("1, before anything is read: %s", async (errorCode, args) => {
    const { code, stderr } = await runHere(["scan", ...args], env);
    expect(code).toBe(1);
    expect(stderr).toContain(`[${errorCode}]`);
    expect(stderr).not.toContain("    at ");
  });

  test("0: help", async () => {
    const { code, stdout } = await runHere(["scan", "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("Examples:");
  });
});

test("Ctrl-C ends it cleanly while the response is still coming", async () => {
  async function* endless() {
    for (let i = 0; i < 600; i++) {
      yield `word ${i} `;
      await setTimeout(50);
      if (stopped) return;
    }
  }
  let stopped = false;
  const { code, stderr } = await scan([], endless(), {
    onOutput: (child) => {
      if (!stopped) child.kill("SIGINT");
      stopped = true;
    },
  });
  expect({ code, stderr }).toEqual({ code: 130, stderr: "" });
});

test("a reader that leaves early gets no verdict, and so no exit code that says all is well", async () => {
  const { code } = await scan(["--jsonl", "--fail-on", "unsafe"], "one two three four. ".repeat(200), {
    onOutput: (child) => child.stdout?.destroy(),
  });
  expect(code).toBe(1);
});

test("otherwise it is no error", async () => {
  const { code, stderr } = await scan(["--jsonl"], "one two three four. ".repeat(200), {
    onOutput: (child) => child.stdout?.destroy(),
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
});

describe.skipIf(process.platform === "win32")("a file that is none", () => {
  const make: Record<string, (path: string) => Promise<unknown>> = {
    "a pipe": (path) => promisify(execFile)("mkfifo", [path]),
    "a device without end": (path) => symlink("/dev/zero", path),
    "a folder": (path) => mkdir(path),
    "no text": (path) => writeFile(path, Buffer.of(0x7b, 0xff, 0x7d)),
    "larger than any": (path) => writeFile(path, " ".repeat(20 << 20)),
  };

  test.each(["--policy", "--messages"].flatMap((option) => Object.keys(make).map((kind) => [option, kind])))(
    "as %s: %s is named",
    async (option, kind) => {
      const path = join(await temporaryFolder(), "file.json");
      await make[kind](path);
      const { code, stderr } = await runHere(["scan", option, path]);
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringMatching(/_UNREADABLE\] .*file\.json/),
      });
    },
  );

  test.each(["--policy", "--messages"])("as %s: JSON without end is named", async (option) => {
    const path = join(await temporaryFolder(), "file.json");
    await writeFile(path, "[".repeat(1 << 20));
    const { code, stderr } = await runHere(["scan", option, path]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/_INVALID\] .*deep/) });
  });
});

test("a policy file may begin with a byte order mark; what it holds wrongly is shown as text", async () => {
  const path = join(await temporaryFolder(), "policy.json");
  const check = async (policy: string) => {
    await writeFile(path, policy);
    return (await runHere(["scan", "--policy", path], env)).stderr;
  };
  expect(await check('\ufeff{"reading": "harsh"}')).toMatch(/POLICY_INVALID\] .*harsh/);
  const shown = await check('{"\\u001b]0;title\\u0007\\u009b2J": 1}');
  expect(shown).toMatch(/POLICY_INVALID\] .*u001b\]0;title/);
  expect(shown).not.toMatch(/[^\P{Cc}\n]/u);
  expect(await check("\x1b]0;title\x07")).not.toContain("\x1b");
});

test.each([["--fail-on", "unsafe"], ["--stop"], ["--input", "sse"]])(
  "1: input that breaks off is no end, and what came of it has no verdict (%s)",
  async (...options) => {
    const { code, stdout, stderr } = await runHere(
      ["scan", ...options],
      env,
      breakingOff('data: {"choices":[{"index":0,"delta":{"content":"Knead the dough"}}]}\n\n'),
    );
    expect(code).toBe(1);
    expect(stderr).toContain("[INPUT_UNREADABLE] Standard input cannot be read to its end: read ECONNRESET.");
    expect(stdout).not.toMatch(/response\s+Safe/);
  },
);

test("1: a folder as input", async () => {
  const { code, stderr } = await promisify(execFile)("sh", [
    "-c",
    `"${process.execPath}" "${MAIN}" scan < /`,
  ]).catch((error) => error);
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("[INPUT_UNREADABLE]") });
});
