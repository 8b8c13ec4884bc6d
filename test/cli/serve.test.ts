import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MAIN, runHere } from "../support/cli.js";
import { temporaryFolder } from "../support/model.js";

test("qwen3guard serve answers with the embedded guard, asks for its keys, and ends at a signal", async () => {
  const keys = join(await temporaryFolder(), "keys.txt");
  await writeFile(keys, "first\n\nsecond\n");
  const child = spawn(process.execPath, [
    MAIN,
    "serve",
    "--port",
    "0",
    "--api-key-file",
    keys,
    "--grace",
    "1",
  ]);
  let log = "";
  child.stderr.on("data", (data) => {
    log += data;
  });
  const [line] = await once(child.stdout, "data");
  const url = /http:\/\/[\d.:]+/.exec(String(line))?.[0] as string;
  expect(String(line)).toContain("serves a Stream guard (fp32, cpu)");
  const ask = (key: string) =>
    fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: "any", messages: [{ role: "user", content: "How do I bake bread?" }] }),
    });
  expect((await ask("third")).status).toBe(401);
  const answer = (await (await ask("second")).json()) as { choices: { message: { content: string } }[] };
  expect(answer.choices[0].message.content).toMatch(/^Safety: Safe\nCategories: None$/);
  child.kill("SIGTERM");
  const [code] = await once(child, "close");
  expect(code).toBe(0);
  const entries = log
    .trim()
    .split("\n")
    .map((entry) => JSON.parse(entry));
  expect(entries.map(({ status }) => status)).toEqual([401, 200]);
  expect(log).not.toContain("bread");
});

test.each([
  ["beside one that is none", ["--api-key", "right", "--api-key", "  "]],
  ["that no header can hold", ["--api-key", "clé"]],
  ["of two words", ["--api-key", "team a"]],
])("a key %s is no open door", async (_, args) => {
  const { code, stderr } = await runHere(["serve", "--port", "0", ...args]);
  expect(code).toBe(1);
  expect(stderr).toContain("[KEYS_INVALID]");
});

test("a remark in a file of keys is no key", async () => {
  const keys = join(await temporaryFolder(), "keys.txt");
  await writeFile(keys, "# team\nright\n");
  const { code, stderr } = await runHere(["serve", "--port", "0", "--api-key-file", keys]);
  expect(code).toBe(1);
  expect(stderr).toContain("[KEYS_INVALID]");
});

test("a file of keys without a name is no open door", async () => {
  const { code, stderr } = await runHere(["serve", "--port", "0", "--api-key-file", ""]);
  expect(code).toBe(2);
  expect(stderr).toContain("'--api-key-file <file>' is empty");
});

test("a file of keys without keys is no open door", async () => {
  const keys = join(await temporaryFolder(), "keys.txt");
  await writeFile(keys, "\n \n");
  const { code, stderr } = await runHere(["serve", "--port", "0", "--api-key-file", keys]);
  expect(code).toBe(1);
  expect(stderr).toContain("[KEYS_INVALID]");
});
