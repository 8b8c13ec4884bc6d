/**
 * Does any request hold a proxy's event loop? Each is as large as the proxy takes; the loop's own timer, and `/healthz` asked
 * meanwhile from another process, tell how long it was held.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { tiny } from "../scripts/checkpoint/presets.js";
import { shape06B, writeRandomCheckpoint } from "../scripts/checkpoint/random.js";
import { exportCheckpoint } from "../src/export/export.js";
import { mostBytes } from "../src/tokenizer/limits.js";
import { BENCH_CACHE, TOKENIZER } from "./model.js";
import { report } from "./report.js";
import { type RequestCase, requestCases } from "./request-cases.js";
import { round } from "./stats.js";

/** Milliseconds that no request may hold the loop for, and in which `/healthz` must answer. */
const TARGET = { heldMs: 100, healthMs: 250 };
/** Between two questions after the proxy's health. */
const POLL_MS = 10;

const { values } = parseArgs({
  options: {
    /** Models: the embedded one, and a small one of random weights with Qwen3's own tokenizer and context. */
    models: { type: "string", default: "embedded,qwen3" },
    /** Only requests whose name holds this. */
    only: { type: "string", default: "" },
  },
});

const results: Record<string, object> = {};
for (const model of values.models.split(",")) {
  const child = fork(fileURLToPath(new URL("proxy-process.ts", import.meta.url)), [await modelDir(model)], {
    execArgv: process.execArgv,
  });
  const [{ url, maxTokens, longestToken }] = await once(child, "message");
  const bytes = mostBytes({ maxTokens, tokenizer: { longest: longestToken } });
  console.log(`${model}: ${maxTokens} tokens, requests of ${bytes} bytes`);
  const cases: Record<string, object> = {};
  for (const one of requestCases(bytes, maxTokens)) {
    if (!one.name.includes(values.only)) continue;
    const result = await measure(child, url, one);
    cases[one.name] = result;
    const over = (result.workedMs || result.heldMs) > TARGET.heldMs ? "  over" : "";
    const { status, code, ms, heldMs, workedMs, worstHealthMs } = result;
    console.log(
      `  ${one.name.padEnd(36)} ${String(status)} ${String(code ?? "").padEnd(18)} ${ms} ms, loop held ${heldMs} ms, of that ${workedMs} at work, ` +
        `/healthz within ${worstHealthMs} ms${over}`,
    );
  }
  results[model] = { maxTokens, longestToken, bytes, cases };
  child.kill();
  await once(child, "exit");
}
report("requests", { target: TARGET, models: results });

/** "" for the embedded one. */
async function modelDir(model: string): Promise<string> {
  if (model === "embedded") return "";
  const dir = join(BENCH_CACHE, "tiny-qwen3");
  if (existsSync(dir)) return dir;
  const { vocab_size, max_position_embeddings } = shape06B;
  const checkpoint = `${dir}.checkpoint`;
  await mkdir(checkpoint, { recursive: true });
  const config = { ...tiny, vocab_size, max_position_embeddings };
  await writeRandomCheckpoint(checkpoint, { config, dtype: "BF16", tokenizerDir: TOKENIZER });
  await exportCheckpoint(checkpoint, `${dir}.partial`, { dtype: "fp32" });
  await rename(`${dir}.partial`, dir);
  return dir;
}

async function measure(child: ChildProcess, url: string, { path, body, times = 1 }: RequestCase) {
  const text = JSON.stringify(body);
  await held(child);
  const health: number[] = [];
  let running = true;
  const polling = (async () => {
    while (running) {
      const since = performance.now();
      await send(`${url}/healthz`, "GET");
      health.push(performance.now() - since);
      await sleep(POLL_MS);
    }
  })();
  // The connections of before are gone, and what this process took to write the case.
  await sleep(5 * POLL_MS);
  health.length = 0;
  await held(child);
  const since = performance.now();
  const answers = await Promise.all(Array.from({ length: times }, () => send(url + path, "POST", text)));
  const ms = performance.now() - since;
  running = false;
  await polling;
  const longest = await held(child);
  const { status, said } = answers[0];
  return {
    bytes: Buffer.byteLength(text),
    status,
    code: /"code":\s*"([a-z_]+)"/.exec(said)?.[1] ?? null,
    ms: round(ms),
    heldMs: round(longest.heldMs),
    workedMs: round(longest.workedMs),
    worstHealthMs: round(Math.max(...health, 0)),
  };
}

/** The longest that the proxy's loop was held since last asked, and that it worked without a pause. */
async function held(child: ChildProcess): Promise<{ heldMs: number; workedMs: number }> {
  const told = once(child, "message");
  child.send("held?");
  return (await told)[0];
}

function send(url: string, method: string, body?: string): Promise<{ status: number; said: string }> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    const asked = request(url, { method, headers, agent: false }, async (answer) => {
      let said = "";
      for await (const chunk of answer.setEncoding("utf8")) if (said.length < 10_000) said += chunk;
      resolve({ status: answer.statusCode ?? 0, said });
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
