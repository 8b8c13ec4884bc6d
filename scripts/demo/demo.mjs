// Streams conversations at an LLM's pace through `qwen3guard scan` on the embedded model.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** Time between two chunks of a middling LLM on one GPU. */
const MS_A_CHUNK = 30;
const CLI = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

const conversations = JSON.parse(await readFile(new URL("conversations.json", import.meta.url), "utf8"));

for (const { title, messages, response } of conversations) {
  const prompt = messages.at(-1).content;
  process.stdout.write(`\n── ${title} ${"─".repeat(Math.max(0, 70 - title.length))}\n\nuser      ${prompt}\n`);
  const scan = spawn(process.execPath, [CLI, "scan", "--prompt", prompt], { stdio: ["pipe", "inherit", "inherit"] });
  const exit = new Promise((resolve) => scan.once("close", resolve));
  for (const chunk of response.match(/\s*\S{1,6}/gu) ?? []) {
    scan.stdin.write(chunk);
    await setTimeout(MS_A_CHUNK);
  }
  scan.stdin.end();
  const code = await exit;
  if (code !== 0) process.exit(code ?? 1);
}
