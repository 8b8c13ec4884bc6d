// Streams conversations at an LLM's pace through `qwen3guard scan` on the embedded model.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** Time between two chunks of a middling LLM on one GPU. */
const MS_A_CHUNK = 30;
const CLI = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const env = process.stdout.isTTY ? { FORCE_COLOR: "1", ...process.env } : process.env;

const conversations = JSON.parse(await readFile(new URL("conversations.json", import.meta.url), "utf8"));

for (const { title, messages, response } of conversations) {
  const prompt = messages.at(-1).content;
  const rule = "─".repeat(Math.max(0, 70 - title.length));
  process.stdout.write(`\n── ${title} ${rule}\n\nuser      ${prompt}\n`);
  const scan = spawn(process.execPath, [CLI, "scan", "--prompt", prompt], {
    stdio: ["pipe", "pipe", "inherit"],
    env,
  });
  scan.stdout.pipe(process.stdout, { end: false });
  const closed = once(scan, "close");
  // The prompt's verdict shows that the model is loaded: an LLM would be answering from now on.
  await Promise.race([once(scan.stdout, "data"), closed]);
  for (const chunk of response.match(/\s*\S{1,6}/gu) ?? []) {
    scan.stdin.write(chunk);
    await setTimeout(MS_A_CHUNK);
  }
  scan.stdin.end();
  const [code] = await closed;
  if (code !== 0) process.exit(code ?? 1);
}
